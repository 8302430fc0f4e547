/** Questions around a physical restore: may it be written there, and does the copy start and hold what was backed up? */
import { dirname } from 'node:path'
import { z } from 'zod'
import type { Manifest } from '../../../model/manifest.ts'
import type { CheckResult } from '../../../model/types.ts'
import type { CommandResult, Probe, RestoreTarget } from '../../engine.ts'
import { toolError } from '../../explain.ts'
import { explain } from '../explain.ts'
import { countsSql, factsOf, objectKinds, readCounts } from '../facts.ts'
import { clusterOf } from './facts.ts'
import { asOwner, type ProgramFacts, script } from './programs.ts'
import { placesOf } from './restore.ts'

/** Three lines: entries of the target (`-`: not there), whether its parent can be written, free KiB there. */
const lookAtTarget = `parent=$(dirname -- "$1")
if [ -e "$1" ]; then ls -A -- "$1" | wc -l; else echo -; fi
own() { if [ "$(id -u)" = 0 ]; then setpriv --reuid="$(id -u postgres)" --regid="$(id -g postgres)" --init-groups "$@"; else "$@"; fi; }
if [ -d "$parent" ] && own test -w "$parent"; then echo yes; else echo no; fi
df -Pk -- "$parent" 2>/dev/null | awk 'NR == 2 { print $4 }'`

export function targetChecks(target: RestoreTarget, manifest: Manifest): Probe<CheckResult[]> {
  const { final } = placesOf(target)
  return {
    commands: { target: script(lookAtTarget, final) },
    read({ target: said }) {
      const [entries = '', writable = '', free = ''] = (said?.stdout ?? '').split('\n')
      const bytesOf = ({ artifacts }: Manifest) =>
        artifacts.reduce((sum, artifact) => sum + artifact.toolBytes, 0)
      const [full, ...others] = [...(target.parents ?? []), manifest]
      // A chain lies there side by side, and what it is put together to beside it.
      const bytes = others.reduce(
        (sum, one) => sum + bytesOf(one),
        bytesOf(full ?? manifest) * (others.length > 0 ? 2 : 1),
      )
      const check = (
        id: string,
        title: string,
        ok: boolean,
        good: string,
        bad: Pick<CheckResult, 'code' | 'detail' | 'hint'>,
      ): CheckResult =>
        ok ? { id, title, answer: 'pass', detail: good } : { id, title, answer: 'fail', ...bad }
      const freeBytes = Number(free) * 1024
      return [
        check(
          'target.exists',
          'Target is free',
          entries.trim() === '-' || entries.trim() === '0',
          `There is nothing in ${final}.`,
          {
            code: 'restore.target-exists',
            detail: `${final} exists already and is not an empty directory.`,
            hint: 'Name a directory that is not there.',
          },
        ),
        check(
          'target.writable',
          'Target can be made',
          writable === 'yes',
          `${dirname(final)} can be written.`,
          {
            code: 'restore.mismatch',
            detail: `${dirname(final)} is not there, or its owner is another one than the user that the tools run as.`,
            hint: 'Make it for that user, or restore elsewhere.',
          },
        ),
        check(
          'target.room',
          'Target has room',
          freeBytes >= bytes,
          `${Math.floor(freeBytes / 1e6)} MB free, ${Math.ceil(bytes / 1e6)} MB needed.`,
          {
            code: 'restore.target-full',
            detail: `${dirname(final)} has ${Math.floor(freeBytes / 1e6)} MB free; the copy has ${Math.ceil(bytes / 1e6)} MB.`,
          },
        ),
      ]
    },
  }
}

/**
 * Starts the copy in the foreground of this very process group, so that whoever ends the group ends it, too; asks; stops it. No
 * TCP, a socket in a directory of its own, nobody's configuration but ours, no workers that would reach out.
 * A server that is told to stop while it replays the WAL of its backup never starts again ("WAL ends before end of online
 * backup"): what it begins from is kept, and put back before another try.
 * Arguments: programs, data directory, bootstrap user, database, max_prepared_transactions, socket directory, kept files.
 */
const startAndAsk = `bin=$1 data=$2 user=$3 database=$4 prepared=$5 run=$6 kept=$7
if [ -e "$kept.label" ]; then
  cp -- "$kept.control" "$data/global/pg_control" && cp -- "$kept.label" "$data/backup_label" || exit 1
elif [ -e "$data/backup_label" ]; then
  cp -- "$data/global/pg_control" "$kept.control" && cp -- "$data/backup_label" "$kept.new" &&
    sync -- "$kept.control" "$kept.new" && mv -- "$kept.new" "$kept.label" || exit 1
fi
rm -rf -- "$run"
mkdir -m 0700 -- "$run" || exit 1
trap 'rm -rf -- "$run"' EXIT
printf 'local all all trust\\n' > "$run/hba.conf"
: > "$run/postgresql.conf"
: > "$run/ident.conf"
"$bin/postgres" -D "$data" -p 5432 \\
  -c config_file="$run/postgresql.conf" -c hba_file="$run/hba.conf" -c ident_file="$run/ident.conf" \\
  -c listen_addresses= -c unix_socket_directories="$run" -c unix_socket_permissions=0700 -c external_pid_file= \\
  -c archive_mode=off -c restore_command= -c primary_conninfo= -c primary_slot_name= \\
  -c max_wal_senders=0 -c max_logical_replication_workers=0 -c autovacuum=off -c ssl=off -c jit=off \\
  -c shared_preload_libraries= -c session_preload_libraries= -c local_preload_libraries= \\
  -c max_prepared_transactions="$prepared" -c logging_collector=off -c log_destination=stderr \\
  > "$run/log" 2>&1 < /dev/null &
server=$!
stop() { kill -INT "$server" 2>/dev/null; wait "$server"; }
trap 'stop; exit 143' TERM INT HUP
until "$bin/pg_isready" -q -h "$run" -p 5432 -U "$user" -d postgres; do
  if ! kill -0 "$server" 2>/dev/null; then
    echo 'holdfast: the copy does not start' >&2
    tail -n 20 "$run/log" >&2
    exit 3
  fi
  sleep 0.2
done
# A name that looks like a connection string is one as an argument, and only a name here.
PGDATABASE=$database; export PGDATABASE
"$bin/psql" -X -A -t -q -w -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -h "$run" -p 5432 -U "$user" -f -
asked=$?
if [ "$asked" = 0 ] && [ -x "$bin/pg_amcheck" ]; then
  echo amcheck
  "$bin/pg_amcheck" -h "$run" -p 5432 -U "$user" -w --all > "$run/amcheck" 2>&1
  echo "exit $?"
  tail -n 20 "$run/amcheck"
fi
stop
[ "$asked" = 0 ] || exit "$asked"
rm -f -- "$kept.label"
rm -f -- "$kept.control"
echo controldata
"$bin/pg_controldata" -D "$data"`

const clusterAnswer = z.object({ databases: z.array(z.string()), systemIdentifier: z.string() })

const proofSql = `SET search_path = pg_catalog;
${countsSql}SELECT json_build_object(
  'databases', (SELECT json_agg(datname ORDER BY datname) FROM pg_database),
  'systemIdentifier', (SELECT system_identifier::text FROM pg_control_system())
);
`

export function proofs(
  target: RestoreTarget,
  manifest: Manifest,
  programs: ProgramFacts & { directory: string },
): Probe<CheckResult[]> {
  const { temporary, mark, socket } = placesOf(target)
  const { server } = factsOf(manifest)
  const cluster = clusterOf(manifest)
  const run = script(
    startAndAsk,
    ...[programs.directory, temporary, cluster.bootstrapUser, manifest.server.database],
    ...[String(server.maxPreparedTransactions), socket, `${temporary}/${mark}`],
  )
  return {
    commands: { prove: asOwner(programs, { ...run, input: proofSql }) },
    read: ({ prove }) => verdict(prove, manifest),
  }
}

function verdict(result: CommandResult | undefined, manifest: Manifest): CheckResult[] {
  const step = { title: 'Starting the copy and asking it' }
  if (!result?.exits.every(exit => exit === 0)) {
    if (result && /holdfast: the copy does not start/.test(result.stderrTail)) {
      throw toolError('restore.proof-failed', result, step, 'the copy does not start')
    }
    throw (
      (result && explain(result, step)) ??
      toolError(
        'restore.proof-failed',
        result ?? { exits: [], stdout: '', stderrTail: '' },
        step,
        'it failed',
      )
    )
  }
  const [asked = '', rest = ''] = result.stdout.split(/^controldata$/m)
  const [answers = '', amcheck] = asked.split(/^amcheck$/m)
  const [counts = '', about = ''] = answers.trim().split('\n')
  const copy = clusterAnswer.parse(JSON.parse(about))
  return [
    identity(copy.systemIdentifier, manifest),
    databases(copy.databases, manifest),
    ...objects(counts, manifest),
    structure(amcheck),
    stopped(rest),
  ]
}

const check = (id: string, title: string, ok: boolean, good: string, bad: string): CheckResult =>
  ok
    ? { id, title, answer: 'pass', detail: good }
    : { id, title, answer: 'fail', code: 'restore.proof-failed', detail: bad }

function identity(copy: string, manifest: Manifest): CheckResult {
  const { systemIdentifier } = factsOf(manifest).server
  return check(
    'proof.identity',
    'System identifier',
    systemIdentifier === '' || systemIdentifier === copy,
    copy,
    `The copy says it is ${copy}; backed up was ${systemIdentifier}.`,
  )
}

/** The list is older than the end of the backup: one that was made or dropped while it ran is no loss. */
function databases(copy: readonly string[], manifest: Manifest): CheckResult {
  const lost = clusterOf(manifest).databases.filter(name => !copy.includes(name))
  const base = { id: 'proof.databases', title: 'Databases' }
  if (lost.length === 0) return { ...base, answer: 'pass', detail: copy.join(', ') }
  return lost.includes(manifest.server.database)
    ? check(base.id, base.title, false, '', `The database ${manifest.server.database} is not in the copy.`)
    : {
        ...base,
        answer: 'warn',
        detail: `Not in the copy: ${lost.join(', ')} (dropped while the backup ran?).`,
      }
}

function objects(counts: string, manifest: Manifest): CheckResult[] {
  const before = factsOf(manifest).database.counts
  const after = readCounts(counts)
  const base = { id: 'proof.objects', title: `Objects of ${manifest.server.database}` }
  const lost = objectKinds.filter(kind => before[kind] > 0 && after[kind] === 0)
  const differing = objectKinds.filter(kind => before[kind] !== after[kind])
  const words = (kinds: readonly (typeof objectKinds)[number][]) =>
    kinds.map(kind => `${kind} ${before[kind]} → ${after[kind]}`).join(', ')
  if (lost.length > 0) return [check(base.id, base.title, false, '', `Lost: ${words(lost)}.`)]
  if (differing.length > 0) {
    return [
      {
        ...base,
        answer: 'warn',
        detail: `Counted just before the backup, and in the copy: ${words(differing)}.`,
      },
    ]
  }
  return [{ ...base, answer: 'pass', detail: `${after.tables} tables, ${after.indexes} indexes` }]
}

function structure(said: string | undefined): CheckResult {
  const base = { id: 'proof.amcheck', title: 'pg_amcheck' }
  const [, exit, words = ''] = /exit (\d+)\n?([\s\S]*)/.exec(said ?? '') ?? []
  const isMissing = /no relations to check|amcheck is not installed/.test(words)
  if (exit === undefined || (exit !== '0' && exit !== '2' && isMissing)) {
    return {
      ...base,
      answer: 'warn',
      detail:
        'Tables and indexes were not looked into: the extension amcheck is in no database of the backup.',
      hint: 'CREATE EXTENSION amcheck in the databases that are backed up.',
    }
  }
  return check(
    base.id,
    base.title,
    exit === '0',
    'Every table and index of the databases that have amcheck is whole.',
    `pg_amcheck says: ${words.trim().slice(-600)}`,
  )
}

const stopped = (controlData: string): CheckResult =>
  check(
    'proof.stopped',
    'Stopped in order',
    /^Database cluster state: +shut down$/m.test(controlData),
    /^Latest checkpoint location: +(\S+)$/m.exec(controlData)?.[1] ?? '',
    'pg_controldata does not say that the copy was shut down in order.',
  )
