/** What lies under the name that a physical restore is to take, who runs it, and whether it can be replaced at all. */
import { z } from 'zod'
import { HoldfastError } from '../../../model/errors.ts'
import type { Allowance, CheckResult } from '../../../model/types.ts'
import type { Command, CommandResult, ExistingTarget, Probe } from '../../engine.ts'
import { lastWords } from '../../tail.ts'
import type { PostgresqlConnection } from '../connection.ts'
import { script, shellText } from './programs.ts'

const lookText = shellText('look')

export const supervisor = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('pg_ctl'),
    /** Directory of the programs that ran it last; '' where nobody knows. */
    bin: z.string(),
    /** Arguments that it was started with last, without its directory. */
    options: z.array(z.string()),
    /** '' where its output goes to no file. */
    log: z.string(),
  }),
  z.object({ kind: z.literal('systemd'), unit: z.string() }),
  z.object({ kind: z.literal('program'), path: z.string() }),
])
export type Supervisor = z.infer<typeof supervisor>

export const existingFacts = z.object({
  /** `device:inode` */
  inode: z.string(),
  systemIdentifier: z.string(),
  owner: z.object({ user: z.int(), group: z.int() }),
  version: z.string(),
  isRunning: z.boolean(),
  isStandby: z.boolean(),
  /** Its log and its tablespaces, where they are not in it. */
  elsewhere: z.array(z.string()),
  supervisor,
})
export type ExistingFacts = z.infer<typeof existingFacts>

const unitOf = ({ supervisor: named }: PostgresqlConnection): string => {
  const unit = named?.startsWith('systemd:') ? named.slice('systemd:'.length) : ''
  return unit === '' || /\.[a-z]+$/.test(unit) ? unit : `${unit}.service`
}

export const lookCommand = (settings: PostgresqlConnection, directory: string): Command =>
  script(lookText, directory, unitOf(settings))

/** Each line of the answer: a word, and what is said of it. Several of one kind keep their order. */
type Seen = ReadonlyMap<string, string[]>

function seen(result: CommandResult | undefined, directory: string): Seen {
  if (!result?.exits.every(exit => exit === 0)) {
    throw new HoldfastError(
      'restore.target-permission',
      `Looking at ${directory} failed. ${lastWords(result?.stderrTail ?? '')}`,
      { hint: 'The tools have to run as the owner of the data directory, or as root (runAs of the host).' },
    )
  }
  const map = new Map<string, string[]>()
  for (const line of result.stdout.split('\n')) {
    const [, key, value] = /^(\S+) ?(.*)$/.exec(line) ?? []
    if (key !== undefined && value !== undefined) map.set(key, [...(map.get(key) ?? []), value])
  }
  return map
}

const firstOf = (look: Seen, key: string): string => look.get(key)?.[0] ?? ''

export function existing(
  settings: PostgresqlConnection,
  directory: string,
  allow: readonly Allowance[] = [],
): Probe<ExistingTarget | undefined> {
  return {
    commands: { look: lookCommand(settings, directory) },
    read: ({ look }) => {
      const found = seen(look, directory)
      if (found.size === 0 || firstOf(found, 'entries') === '0') return undefined
      return targetOf(settings, directory, found, allow)
    },
  }
}

/** The very directory of the plan, still, and nothing came to hinder it? */
export function replaceable(
  settings: PostgresqlConnection,
  result: CommandResult | undefined,
  directory: string,
  { replaces: planned, allow = [] }: { replaces: ExistingTarget; allow?: readonly Allowance[] },
): CheckResult[] {
  const same = { id: 'target.same', title: 'Target is the one to replace' }
  const look = seen(result, directory)
  const { inode, systemIdentifier, isStandby, elsewhere } = existingFacts.parse(planned.facts)
  if (firstOf(look, 'inode') !== inode || firstOf(look, 'system') !== systemIdentifier) {
    return [
      {
        ...same,
        answer: 'fail',
        code: 'restore.target-changed',
        detail: `The plan replaces ${planned.words}; under that name there is another directory now, or none.`,
      },
    ]
  }
  const replace = { id: 'target.replaceable', title: 'Target may be exchanged' }
  let now: ExistingFacts
  try {
    now = existingFacts.parse(targetOf(settings, directory, look, allow).facts)
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error
    const { code, message: detail, hint } = error
    return [{ ...replace, answer: 'fail', code, detail, ...(hint === undefined ? {} : { hint }) }]
  }
  if (now.isStandby !== isStandby || now.elsewhere.join() !== elsewhere.join()) {
    const detail = `${directory} has become another kind of server since it was planned: ${kindOf(now)}.`
    return [{ ...same, answer: 'fail', code: 'restore.target-changed', detail }]
  }
  return [
    { ...same, answer: 'pass', detail: `device and inode ${inode}, system identifier ${systemIdentifier}` },
    { ...replace, answer: 'pass', detail: `No mount point; ${kindOf(now)}.` },
  ]
}

const kindOf = ({ isStandby, elsewhere }: ExistingFacts): string =>
  `${isStandby ? 'a standby' : 'no standby'}, ${elsewhere.length > 0 ? `parts elsewhere: ${elsewhere.join('; ')}` : 'nothing of it lies elsewhere'}`

/** Links that are of no consequence: configuration is copied, whatever it leads to. */
const configuration = /^\.\/(postgresql(\.auto)?|pg_hba|pg_ident)\.conf /

function targetOf(
  settings: PostgresqlConnection,
  directory: string,
  look: Seen,
  allow: readonly Allowance[],
): ExistingTarget {
  const value = (key: string) => firstOf(look, key)
  const refuse = (what: string, hint: string) =>
    new HoldfastError('restore.swap-refused', `${directory} ${what}.`, { hint })
  const beside = 'Restore into a new directory beside it, and exchange the two by hand.'
  if (value('kind') !== 'directory') {
    throw refuse(`is a ${value('kind')}`, 'Name the data directory itself, not a link to it.')
  }
  if (!/^\d+$/.test(value('system')) || value('version') === '') {
    throw refuse('is not empty, and no data directory of PostgreSQL', 'Name a directory that is not there.')
  }
  if (value('mount') === 'yes') throw refuse('is a mount point: it cannot be renamed', beside)
  const mounted = look.get('mounted')?.join(', ') ?? ''
  if (mounted !== '') throw refuse(`has other file systems in it (${mounted})`, beside)
  const recovery = look.get('recovery') ?? []
  if (recovery.includes('recovery.signal')) {
    throw refuse('is being recovered (recovery.signal)', 'Let it come to its end, or remove it.')
  }
  const isStandby = recovery.length > 0
  if (isStandby && !allow.includes('standby')) {
    throw refuse(
      'is a standby (standby.signal)',
      'Replace its primary, or name it: --allow standby. The copy is a primary of its own then, and follows nobody.',
    )
  }
  const links = (look.get('link') ?? []).filter(link => !configuration.test(link))
  const named = (link: string) =>
    (link.startsWith('./pg_wal ') && allow.includes('wal')) ||
    (/^\.\/pg_tblspc\/\d+ /.test(link) && allow.includes('tablespaces'))
  const foreign = links.filter(link => !named(link))
  if (foreign.length > 0) {
    throw refuse(
      `has parts elsewhere, which would not come along (${foreign.join('; ')})`,
      foreign.every(link => /^\.\/pg_(wal|tblspc\/\d+) /.test(link))
        ? 'Name them: --allow wal, --allow tablespaces. Those of the copy lie beside its data directory then.'
        : beside,
    )
  }
  const [user = -1, group = -1] = value('owner').split(':').map(Number)
  if (value('user') !== '0' && value('user') !== String(user)) {
    throw refuse(
      `belongs to the user ${user}, and the tools run as ${value('user')}`,
      'Let the tools run as its owner, or as root (runAs of the host).',
    )
  }
  const facts: ExistingFacts = {
    inode: value('inode'),
    systemIdentifier: value('system'),
    owner: { user, group },
    version: value('version'),
    isRunning: value('pid') !== '',
    isStandby,
    elsewhere: links.map(link => link.replace(/^\.\//, '').replace(' ', ' → ')),
    supervisor: supervisorOf(settings, directory, look),
  }
  expectPort(settings, directory, look)
  const sizeBytes = Number(value('kilobytes')) * 1024
  const size = sizeBytes > 0 ? `, ${Math.ceil(sizeBytes / 1e6)} MB` : ''
  return {
    identity: `postgresql:${facts.systemIdentifier}:${facts.inode}:${directory}`,
    words: `The data directory ${directory} (PostgreSQL ${facts.version}, system identifier ${facts.systemIdentifier}, device and inode ${facts.inode}, user ${user}${size}, ${conditionOf(look)})`,
    sizeBytes,
    facts: { ...facts, slots: look.get('slot') ?? [] },
  }
}

/** DB_SHUTDOWNED and DB_SHUTDOWNED_IN_RECOVERY of pg_control. */
const inOrder = ['1', '2']

function conditionOf(look: Seen): string {
  if (firstOf(look, 'pid') !== '') return `running as process ${firstOf(look, 'pid')}`
  if (inOrder.includes(firstOf(look, 'state'))) return 'stopped in order'
  return 'not running as far as its host can see, and not stopped in order: nobody must run it from elsewhere'
}

/** Another server's directory is not what the connection, its lock and its approvals are for. */
function expectPort(settings: PostgresqlConnection, directory: string, look: Seen): void {
  const port = firstOf(look, 'port')
  if (port === '' || Number(port) === settings.port) return
  throw new HoldfastError(
    'restore.swap-refused',
    `${directory} is of the server on port ${port}; the connection is of the one on port ${settings.port}.`,
    { hint: 'Restore through the connection of that server.' },
  )
}

function supervisorOf(settings: PostgresqlConnection, directory: string, look: Seen): Supervisor {
  const value = (key: string) => firstOf(look, key)
  const refuse = (what: string) =>
    new HoldfastError('restore.swap-refused', `${directory}: ${what}.`, {
      hint: 'Say in the URL of the connection who starts and stops the server: ?supervisor=systemd:UNIT, pg_ctl, or the path of a program that is told stop and start.',
    })
  const named = settings.supervisor
  if (named?.startsWith('/')) return { kind: 'program', path: named }
  const unit = value('unit')
  if (named?.startsWith('systemd:') || (named === undefined && unit !== ''))
    return systemdOf(look, unit, refuse)
  const [, parent = '', parentName = ''] = /^(\d+) (.*)$/.exec(value('parent')) ?? []
  if (named === undefined && parent !== '' && parent !== '1' && parentName !== 'systemd') {
    throw refuse(`its server was started by process ${parent} (${parentName}), which may start it again`)
  }
  if (named === undefined && parent === '' && value('systemd') === 'yes') {
    throw refuse('it does not run, and nobody says who starts it')
  }
  return { kind: 'pg_ctl', ...startedWith(value('options'), refuse), log: value('log') }
}

function systemdOf(look: Seen, unit: string, refuse: (what: string) => HoldfastError): Supervisor {
  const value = (key: string) => firstOf(look, key)
  if (value('user') !== '0') throw refuse(`the unit ${unit} can only be held by root`)
  if (value('unit-LoadState') !== 'loaded') {
    throw refuse(`the unit ${unit} is "${value('unit-LoadState') || 'unknown'}"`)
  }
  if (value('unit-FragmentPath').startsWith('/etc/systemd/system/')) {
    throw refuse(`the unit ${unit} lies in /etc/systemd/system, where it cannot be masked`)
  }
  const [main, pid] = [value('unit-MainPID'), value('pid')]
  if (pid !== '' && main !== pid) throw refuse(`its server is process ${pid}, and that of ${unit} is ${main}`)
  return { kind: 'systemd', unit }
}

/** `postmaster.opts`: the program, then each argument in quotes, which are not escaped. */
function startedWith(
  line: string,
  refuse: (what: string) => HoldfastError,
): { bin: string; options: string[] } {
  if (line === '') return { bin: '', options: [] }
  const match = /^(\S+)((?: "[^"]*")*)\s*$/.exec(line)
  if (!match) throw refuse('its postmaster.opts cannot be read')
  const words = [...(match[2] ?? '').matchAll(/"([^"]*)"/g)].map(word => word[1] ?? '')
  const options: string[] = []
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at] ?? ''
    if (word === '-D') at += 1
    else if (!word.startsWith('-D')) options.push(word)
  }
  const program = match[1] ?? ''
  return { bin: program.startsWith('/') ? program.replace(/\/[^/]*$/, '') : '', options }
}
