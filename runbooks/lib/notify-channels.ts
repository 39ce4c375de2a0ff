// Which receivers a notice has. Each is a channel of its own, so that one that fails is the only one repeated.
import type { Notice } from "./notice.ts";
import { type Pace, Receiver } from "./notify-attempt.ts";
import { sendMail } from "./notify-mail.ts";
import type { Notify } from "./notify-settings.ts";
import { postWebhook } from "./notify-webhook.ts";

/** The channels that don't have the notice yet. */
export const missingChannels = (notify: Notify, notice: Notice): string[] =>
  [
    ...addresses(notify, notice).map(mailChannel),
    ...webhooks(notify, notice).map(({ channel }) => channel),
  ].filter((channel) => !notice.delivered.includes(channel));

/** Brings notices to their channels. Keep one for a run: it knows which receivers are down. */
export class Channels {
  private readonly notify: Notify;
  private readonly env: NodeJS.ProcessEnv;
  private readonly pace: Pace;
  private readonly receivers = new Map<string, Receiver>();

  constructor(notify: Notify, env: NodeJS.ProcessEnv, pace: Pace) {
    this.notify = notify;
    this.env = env;
    this.pace = pace;
  }

  /** Tries every missing channel at once. Returns why each one that failed did; undefined: it has the notice now. */
  async bring(notice: Notice): Promise<Map<string, string | undefined>> {
    const { notify, env } = this;
    const missing = new Set(missingChannels(notify, notice));
    const mails = addresses(notify, notice).map((to) => ({
      channel: mailChannel(to),
      receiver: "relay",
      send: (signal: AbortSignal) => sendMail(notify, notice, to, { env, signal }),
    }));
    const posts = webhooks(notify, notice).map((webhook) => ({
      channel: webhook.channel,
      receiver: webhook.channel,
      send: (signal: AbortSignal) => postWebhook(webhook, notice, { env, signal }),
    }));
    const due = [...mails, ...posts].filter(({ channel }) => missing.has(channel));
    return new Map(
      await Promise.all(
        due.map(
          async ({ channel, receiver, send }) =>
            [channel, await this.receiver(receiver).bring(send)] as const,
        ),
      ),
    );
  }

  private receiver(name: string): Receiver {
    const receiver = this.receivers.get(name) ?? new Receiver(this.pace);
    this.receivers.set(name, receiver);
    return receiver;
  }
}

const mailChannel = (address: string): string => `mail:${address}`;

function addresses(notify: Notify, { audience, to, copy_to_security }: Notice): string[] {
  const team = audience === "security" || copy_to_security ? notify.security : [];
  return [...new Set([...to, ...team])];
}

/** A copy of a tenant's notice goes here only where the team has no address. */
function webhooks(notify: Notify, { audience, copy_to_security }: Notice) {
  const copy = copy_to_security && notify.security.length === 0;
  return audience === "security" || copy ? notify.webhooks : [];
}
