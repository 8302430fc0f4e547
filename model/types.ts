/**
 * The words of Holdfast. One word, one meaning; every other file uses these and no synonyms.
 *
 * engine        a database product (one folder under `engines/`)
 * method        `logical` (client tools, queries) or `physical` (files, native pieces)
 * format        what a method's tool writes: `custom`, `directory`, `copy`, `dump`
 * connection    how to reach one database server: engine, address, options, a reference to its secrets
 * server identity  what the server says it is; two connections to one server share it; locks are named by it
 * host          the machine the tools run on; it may have a worker of its own, that serves no other
 * destination   where artifacts are kept
 * staging       a scratch directory on the machine that runs the tool
 * machine       one staging directory and the workers that share it; they have a task queue of their own
 * artifact      one finished object of a backup in a destination
 * backup        a committed set of artifacts described by one `manifest.json`
 * attempt       one try at producing a backup's artifacts, with its own random id, key and upload
 * installation  one Holdfast with its own catalog and signing key; an `epoch` says which one may write to a prefix
 * recipient     a public key that data keys are wrapped for
 * target        what a restore writes to
 * plan          the exact steps of one operation, as data, with the identity of what they touch and a digest
 * role          what somebody may do at most: `viewer` < `operator` < `approver` < `admin`, each includes those before it
 * actor         who asks: a user or a token, with its role
 * approval      a second, authenticated "yes", bound to one stored plan, used once
 * swap          a proven copy takes the place of what is there; the old one is kept for a grace period
 * schedule      when operations start by themselves; its words are at the top of model/schedules.ts
 * rotation      every backup that one key opens is made to open with another one, too; it takes the first one's place
 * scrub         verifies the backups that were least recently found whole, within a budget of bytes
 * sweep         removes what ended operations have left, found from the side of the stores and machines
 * tiering       artifacts move into colder classes of their store as they grow older
 * drill         a restore to a throw-away target: proven, examined, measured, reported and torn down
 * recovery      a base backup with the archived log replayed over it, up to a place that its target names
 * enabling      a server is made to archive its log (`pitr enable`)
 * operation     one backup, restore, recovery, verify, rotation, scrub, sweep, tiering, drill or enabling, from request to outcome; runs as one workflow
 */

export type EngineName = 'sqlite' | 'postgresql'
export type MethodName = 'logical' | 'physical'
export const backupTypes = ['full', 'incremental'] as const
/** `incremental`: what has changed since another backup, its parent, without which it is worth nothing. */
export type BackupType = (typeof backupTypes)[number]
/** What is not replaced unless the request names it: a standby; one whose log, or whose tablespaces, lie elsewhere. */
export const allowances = ['standby', 'wal', 'tablespaces'] as const
export type Allowance = (typeof allowances)[number]
export type DestinationKind = 'local' | 'server' | 's3' | 'gcs' | 'azure'
export type OperationKind =
  | 'backup'
  | 'restore'
  | 'pitr'
  | 'verify'
  | 'rotateKeys'
  | 'copy'
  | 'scrub'
  | 'sweep'
  | 'tiering'
  | 'drill'
  | 'enablePitr'

/** How hard a verification looks: sizes; every stored byte; what is in them. */
export const verifyLevels = ['exists', 'checksum', 'deep'] as const
export type VerifyLevel = (typeof verifyLevels)[number]

export type OperationState =
  | 'queued'
  | 'running'
  | 'parked'
  | 'awaiting-approval'
  | 'paused'
  | 'cancelling'
  | 'succeeded'
  | 'partial'
  | 'failed'
  | 'cancelled'

/** From the least to the most that one may do. */
export const roles = ['viewer', 'operator', 'approver', 'admin'] as const
export type Role = (typeof roles)[number]

/** Whether somebody with this role may do what needs that one. */
export const roleIncludes = (role: Role, needed: Role): boolean =>
  roles.indexOf(role) >= roles.indexOf(needed)

/** States after which nothing of the operation runs any more. */
export const closedStates = ['succeeded', 'partial', 'failed', 'cancelled'] as const

/** Phases a backup or a restore goes through, in the order in which they are shown. */
export const phases = [
  'probe',
  'plan',
  'precheck',
  'hooks',
  'canary',
  'stage',
  'run tool',
  'upload',
  'copy',
  'verify',
  'commit',
  'record',
  'fetch',
  'thaw',
  'approval',
  'queue',
  'safety backup',
  'restore',
  'replay',
  'prove',
  'examine',
  'dump',
  'load',
  'swap',
  'finish',
  'set',
  'restart',
  'rotate',
  'move',
  'sweep',
  'cleanup',
] as const
export type Phase = (typeof phases)[number]

/** JSON values: what plans, facts and Temporal payloads are made of. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** How far a phase has come. Bytes are the tool's or the store's, as `unit` says; absent means unknown. */
export interface Progress {
  phase: Phase
  /** Bytes moved so far (after compression for transfers). */
  bytes: number
  /** Expected total, where one is known. */
  totalBytes?: number
  /** ISO time at which this phase began. */
  startedAt: string
  /** What it may use of the network now; null or absent: no limit. */
  limitBytesPerSecond?: number | null
  /** Free words of the step, e.g. "part 12". */
  note?: string
}

/** One line of an operation's story: what the CLI list, the API and Temporal's current details show. */
export interface PhaseRecord {
  phase: Phase
  state: 'running' | 'done' | 'failed' | 'skipped'
  startedAt: string
  endedAt?: string
  bytes?: number
  summary?: string
  /** Of the time between the two: parked or paused. */
  heldMs?: number
}

/** A check's answer. `code` is in the table of error codes when the answer is not `pass`. */
export interface CheckResult {
  id: string
  title: string
  answer: 'pass' | 'warn' | 'fail'
  detail: string
  hint?: string
  code?: string
}
