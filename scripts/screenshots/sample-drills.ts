// Made-up drills of a quarter of a year for the picture of the page that shows them: most keep their promises.
import { keepDrillReport } from "../../runbooks/lib/drill-reports.ts";

const WEEKS = 13;

/** Seconds promised and measured in a usual week. */
const SCENARIOS = [
  { name: "1 VPS failure", rto: 3600, usual: 340, rpo: 0 },
  { name: "2 Vault loss", rto: 1800, usual: 95, rpo: 86_400 },
  { name: "3 credential compromise", rto: 300, usual: 9, rpo: 0 },
];

export function writeSampleDrills(folder: string): void {
  for (let week = 0; week < WEEKS; week++) {
    const at = new Date(Date.UTC(2026, 7, 26 + week * 7, 3));
    const scenarios = SCENARIOS.map(({ name, rto, usual, rpo }, index) => {
      // One that missed, so that the picture shows how that looks.
      const missed = index === 1 && week === 4;
      const seconds = missed ? 2400 : usual * (1 + 0.35 * Math.sin(week * 2.1 + index));
      const lost = rpo === 0 ? 0 : 3600 * (9 + 8 * Math.sin(week + 0.5));
      return {
        ...{ name, passed: !missed, target_rto_s: rto, measured_rto_s: Math.round(seconds * 10) / 10 },
        ...{ target_rpo_s: rpo, measured_rpo_s: Math.round(lost) },
      };
    });
    keepDrillReport(folder, { at: at.toISOString(), scenarios });
  }
}
