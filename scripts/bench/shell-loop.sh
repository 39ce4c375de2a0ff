#!/bin/bash
# What somebody without this project would type, in a loop: the necessary exchanges of a response to a compromise, tenant
# by tenant, over the vault command line, curl and ssh. Its arguments are the tenants; it prints each one's seconds.
# Only the shell itself takes answers apart, so that no other program's start counts.
set -euo pipefail

# From the environment: VAULT_ADDR, VAULT_TOKEN, BUCKET, AUTHORIZATION, RELAY, WEBHOOK, CA, NAME, SSH_KEY.
value() { [[ $2 =~ \"$1\":\ *\"?([^\",}]+) ]] && echo "${BASH_REMATCH[1]}"; }
version_of() { value version "${1##*\"metadata\"}"; }
read_json() { vault read -format=json "$1"; }
put() { printf '{"data":%s,"options":{"cas":%s}}' "$3" "$2" | vault write -format=json "$1" -; }
data_of() { [[ $1 =~ \"data\":\ \{[[:space:]]*\"data\":\ (\{.*\}),[[:space:]]*\"metadata\" ]] && echo "${BASH_REMATCH[1]}"; }
# Secrets go to curl by a pipe.
mailu() { there --fail -K <(printf 'header = "Authorization: Bearer %s"\n' "$token") "$@"; }
log_in() { there -K <(printf 'user = "%s:%s"\n' "$user" "$2") "$1" --sasl-ir -X NOOP; }
there() { curl -sS --cacert "$CA" --connect-to "::$ip:" -o /dev/null "$@"; }
store() { curl -sS --fail -o /dev/null -X PUT -H "Content-MD5: $event_md5" -H "$AUTHORIZATION" --data-binary "$event" "$BUCKET/$1"; }
reach() {
  answer=$(put "smtp/data/$t/rotation" "$cas" "${rotation/STATE/$1}")
  cas=$(version_of "$answer")
}

event='{"event":"benchmark"}'
event_md5=$(printf %s "$event" | openssl md5 -binary | base64)
for t in "$@"; do
  begin=$EPOCHREALTIME
  admin=$(read_json "smtp/data/$t/admin")
  server=$(read_json "smtp/data/$t/server")
  mailu=$(read_json "smtp/data/$t/mailu")
  tls=$(read_json "smtp/data/$t/tls")
  before=$(read_json "smtp/data/$t/rotation")
  ip=$(value vps_ip "$server") user=$(value username "$admin") cas=$(version_of "$before")
  old=$(vault write -field=plaintext "smtp-transit/decrypt/$t" ciphertext="$(value password "$admin")" | base64 -d)
  token=$(vault write -field=plaintext "smtp-transit/decrypt/$t" ciphertext="$(value api_token "$mailu")" | base64 -d)
  mailu "https://$NAME/api/v1/user/$user"

  read_json "smtp-transit/keys/$t" >/dev/null
  vault write -f "smtp-transit/keys/$t/rotate" >/dev/null
  password=$(head -c 48 /dev/urandom | base64 -w0)
  sealed=$(printf %s "$password" | base64 -w0 | vault write -field=ciphertext "smtp-transit/encrypt/$t" plaintext=-)
  rotation=$(data_of "$before")
  rotation=${rotation/\"state\": \"$(value state "$before")\"/\"state\": \"STATE\"}
  reach PREPARED
  for again in 1 2; do
    read_json "smtp/data/$t/rotation" >/dev/null
    read_json "smtp/data/$t/admin" >/dev/null
    [[ $again == 2 ]] || printf '{"raw_password":"%s"}' "$password" | mailu -X PATCH -d @- "https://$NAME/api/v1/user/$user"
  done
  reach SET
  log_in "smtps://$NAME:465" "$password"
  log_in "imaps://$NAME:993" "$password"
  reach ACCEPTED
  data=$(data_of "$admin")
  put "smtp/data/$t/admin" "$(version_of "$admin")" "${data/$(value password "$admin")/$sealed}" >/dev/null
  reach COMMITTED

  log_in "smtps://$NAME:465" "$old" 2>/dev/null && echo "the old password still works" >&2
  mailu "https://$NAME/api/v1/tokenuser/$user"
  mailu "https://$NAME/api/v1/user"
  ssh -i "$SSH_KEY" -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o LogLevel=ERROR "root@$ip" 'docker compose exec -T front doveadm proxy kick; docker compose exec -T admin flask config-export' >/dev/null
  reach REFUSED
  read_json "smtp/metadata/$t/admin" >/dev/null
  printf '{"custom_metadata":{"compromised":"true","incident_id":"BENCH-SHELL"}}' | vault patch "smtp/metadata/$t/admin" - >/dev/null
  reach MARKED
  for object in audit/$t-1 audit/$t-2 outbox/$t-1 outbox/$t-2 outbox/$t-3; do store "bench/$object-$begin"; done
  reach NOTIFIED
  reach CLEARED

  dkim=$(read_json "smtp/data/$t/dkim")
  read_json "smtp-transit/keys/$t" >/dev/null
  for record in mailu dkim tls; do
    was=${!record} field=private_key
    [[ $record != mailu ]] || field=api_token
    data=$(data_of "$was")
    new=$(vault write -field=ciphertext "smtp-transit/rewrap/$t" ciphertext="$(value $field "$was")")
    put "smtp/data/$t/$record" "$(version_of "$was")" "${data/$(value $field "$was")/$new}" >/dev/null
  done
  printf '{"batch_input":[{"ciphertext":"%s"}]}' "$new" | vault write "smtp-transit/rewrap/$t" - >/dev/null
  key=$(read_json "smtp-transit/keys/$t")
  version=$(value latest_version "$key")
  vault write "smtp-transit/keys/$t/config" min_decryption_version="$version" min_encryption_version="$version" >/dev/null
  reach RETIRED
  for notice in 1 2 3; do
    printf 'Subject: %s\r\n\r\nrotated\r\n' $notice | curl -sS "smtp://$RELAY" --mail-from a@people.example --mail-rcpt "$t@people.example" -T -
    [[ $notice == 1 ]] || for hook in 1 2; do curl -sS -o /dev/null -d "$event" "$WEBHOOK"; done
    curl -sS -o /dev/null -X DELETE -H "$AUTHORIZATION" "$BUCKET/bench/outbox/$t-$notice-$begin"
  done
  end=$EPOCHREALTIME
  echo "$t $(((${end/./} - ${begin/./}) / 1000))"
done
