/**
 * A proven copy takes the place of a data directory: the server is stopped and held, the two directories are exchanged, and it is
 * started again. One script does it (sh/swap.sh); what varies comes in as arguments.
 */
import { basename } from 'node:path'
import { HoldfastError } from '../../../model/errors.ts'
import type { Manifest } from '../../../model/manifest.ts'
import type { Command, ExistingTarget, ServerFacts, Step, Swap } from '../../engine.ts'
import { one, step } from '../../steps.ts'
import { factsOf } from '../facts.ts'
import { majorOf } from '../probe.ts'
import { type ExistingFacts, existingFacts } from './existing.ts'
import { asOwner, isolatedServer, type ProgramFacts, script, shellText } from './programs.ts'
import type { Places } from './restore.ts'

type Programs = ProgramFacts & { directory: string }

const swapText = shellText('swap')

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`

function commandsOf(
  { final, temporary, kept, journal, mark }: Places,
  { inode, systemIdentifier, owner, supervisor, isStandby }: ExistingFacts,
  { programs, isolation }: { programs: Programs; isolation: string },
): (verb: string) => Command {
  const bin = supervisor.kind === 'pg_ctl' && supervisor.bin !== '' ? supervisor.bin : programs.directory
  const [what, log, options] =
    supervisor.kind === 'pg_ctl'
      ? [
          '',
          supervisor.log === '' ? `${final}.log` : supervisor.log,
          supervisor.options.map(quoted).join(' '),
        ]
      : [supervisor.kind === 'systemd' ? supervisor.unit : supervisor.path, '', '']
  return verb =>
    script(
      swapText,
      ...[verb, final, temporary, kept, journal, mark, inode, systemIdentifier],
      ...[String(owner.user), String(owner.group), bin, supervisor.kind, what, log, options],
      isStandby ? isolation : '',
    )
}

const startsIt = ({ supervisor }: ExistingFacts): string => {
  if (supervisor.kind === 'systemd') return `systemctl start ${supervisor.unit}`
  return supervisor.kind === 'program' ? `${supervisor.path} start` : 'pg_ctl start'
}

/** Throws where another server's directory is meant, or one that these programs cannot run. */
function expectFitting(
  directory: string,
  { systemIdentifier, version }: ExistingFacts,
  { server }: Manifest,
  { identity }: ServerFacts,
): void {
  const known = /^postgresql:(\d+)\//.exec(identity)?.[1]
  if (known !== undefined && known !== systemIdentifier) {
    throw new HoldfastError(
      'restore.swap-refused',
      `${directory} is of the server with the system identifier ${systemIdentifier}; the connection is of ${known}.`,
      { hint: 'Restore through a connection of that server.' },
    )
  }
  if (version === String(majorOf(server.version))) return
  throw new HoldfastError(
    'restore.mismatch',
    `${directory} is of PostgreSQL ${version}; the backup is of ${server.version}.`,
    { hint: 'Restore beside it: whoever starts that server would start it with other programs.' },
  )
}

export function swapOf(
  places: Places,
  existing: ExistingTarget,
  {
    manifest,
    targetFacts,
    programs,
    isolation,
    recovered,
  }: {
    manifest: Manifest
    targetFacts: ServerFacts
    programs: Programs
    /** Settings that keep a copy from what the server it came from works with. */
    isolation: string
    /** The log was replayed over it: it has a timeline of its own. */
    recovered: boolean
  },
): { plan: Swap; destroys: string[] } {
  const { final, kept } = places
  const facts = existingFacts.parse(existing.facts)
  expectFitting(final, facts, manifest, targetFacts)
  const { systemIdentifier } = factsOf(manifest).server
  const slots = Array.isArray(existing.facts.slots) ? existing.facts.slots : []
  const run = commandsOf(places, facts, { programs, isolation })
  const stepOf = (id: string, title: string, verb: string, check: string): Step => ({
    ...step(id, title, run(verb)),
    done: run(check),
  })
  return {
    destroys: [
      `${existing.words}: its server is stopped, ${final} becomes the restored copy, and the server is started again (${startsIt(facts)}) with the configuration files that are there now.`,
      ...(['', facts.systemIdentifier].includes(systemIdentifier)
        ? []
        : [
            `The copy is of another server (system identifier ${systemIdentifier}): connections of the present one will not know it.`,
          ]),
      ...(slots.length > 0 ? [`Replication slots, which the copy does not have: ${slots.join(', ')}.`] : []),
      ...(facts.isStandby
        ? [
            'The present server is a standby. The copy follows nobody: it is a primary of its own, and archives nothing (archive_mode = off) until ALTER SYSTEM RESET archive_mode. A slot that its primary keeps for it has to be dropped there.',
          ]
        : []),
      ...(facts.elsewhere.length > 0
        ? [
            `What lies elsewhere stays there, with the old directory, and is not removed with it: ${facts.elsewhere.join('; ')}. Log and tablespaces of the copy lie in ${final} and beside it.`,
          ]
        : []),
      'Standbys of the present server cannot follow the restored one: they have to be made anew.',
      `The present directory is kept as ${kept} for the grace period; then it is removed.`,
    ],
    plan: {
      prepare: [
        recovered
          ? step('tidy', 'notes of the replay go', asOwner(programs, tidy(places)))
          : step('timeline', 'a timeline of its own', asOwner(programs, newTimeline(places, programs))),
      ],
      exchange: stepOf(
        'exchange',
        `stop the server, put the copy in the place of ${basename(final)}`,
        'exchange',
        'is-exchanged',
      ),
      open: stepOf('open', 'configuration of the present one, start', 'open', 'is-open'),
      rollBack: stepOf('roll-back', `bring ${basename(final)} back`, 'roll-back', 'is-rolled-back'),
      kept: {
        name: kept,
        identify: identify(kept),
        look: `pg_ctl -D ${quoted(kept)} -o "-p 54329 -c listen_addresses= -c archive_mode=off -c primary_conninfo= -c primary_slot_name=" start`,
        goBack: `stop the server; mv ${quoted(final)} ${quoted(`${final}.restored`)} && mv ${quoted(kept)} ${quoted(final)}; start it`,
      },
    },
  }
}

/** Not of what is in it: it stays who it is while it is being removed. */
const identify = (directory: string): Command => one('stat', '-c', '%i:%W', '--', directory)

/**
 * Without a timeline of its own the copy would write WAL under the names that the present server has given already: no archive
 * takes a segment twice. Past every one that the present server knows of. Arguments: programs, the copy, the present directory,
 * the socket's directory.
 */
const timelineText = isolatedServer + shellText('timeline')

const newTimeline = ({ temporary, final, socket }: Places, { directory }: { directory: string }): Command =>
  script(timelineText, directory, temporary, final, socket)

const tidy = ({ temporary, mark }: Places): Command =>
  one('rm', '-f', '--', `${temporary}/${mark}.replayed`, `${temporary}/${mark}.replayed.log`)

/** Removed only as who it was. Arguments: the directory, its identity. */
const dropText = `[ "$(stat -c %i:%W -- "$1" 2>/dev/null)" = "$2" ] || exit 0
pid=
{ read -r pid < "$1/postmaster.pid"; } 2>/dev/null
case $pid in '' | *[!0-9]*) pid=0 ;; esac
if [ "$(stat -L -c %d:%i -- "/proc/$pid/cwd" 2>/dev/null)" = "$(stat -c %d:%i -- "$1")" ]; then
  printf 'holdfast database.busy: a server runs in %s\\n' "$1" >&2
  exit 5
fi
exec rm -rf --one-file-system -- "$1"`

export function dropKept(kept: { name: string; identity: string }): Command {
  if (!/^\d+:\d+$/.test(kept.identity)) {
    throw new HoldfastError('internal', `"${kept.identity}" is no inode and birth.`)
  }
  return script(dropText, kept.name, kept.identity)
}
