/**
 * What the catalog remembers and what the internal worker routes carry. Pure types: validated by api/internal.ts at the edges.
 */
import type { Compression } from './compression.ts'
import type { ErrorCode, ErrorFacts } from './errors.ts'
import type { ForeignFile } from './foreign.ts'
import type { Manifest } from './manifest.ts'
import type {
  Allowance,
  BackupType,
  CheckResult,
  DestinationKind,
  EngineName,
  Json,
  MethodName,
  OperationKind,
  OperationState,
  PhaseRecord,
  Role,
  VerifyLevel,
} from './types.ts'
import type { Verified } from './verified.ts'

/** A connection without its secrets (those are kept encrypted beside it). */
export interface ConnectionRecord {
  name: string
  engine: EngineName
  method: MethodName
  /** The engine's settings (its zod schema), without secrets. */
  settings: Json
  /** Names of the secrets that are stored, e.g. ["password"]. */
  secretFields: string[]
  /** Host its tools run on: `local`, or the name of another one. */
  host: string
  /** Probed when the connection is made; locks are named by it. */
  serverIdentity: string
  serverVersion: string
  createdAt: string
}

/** How a machine is reached over SSH. */
export interface SshSettings {
  address: string
  port: number
  /** Who logs in. */
  user: string
  /** Everything runs as this user, by sudo; null: as who logs in. */
  runAs: string | null
  /** Staging there: an absolute path. */
  tempDir: string
  /** Name of the host to go through. */
  through: string | null
  /** Also offer the keys of the agent that our own processes have. */
  agent: boolean
}

/** Of a machine that is not reached at all: a worker that lives there comes for its steps. */
export interface HostWorkerSettings {
  /** Random; names its task queue. Another host of the same name has another one. */
  worker: string
}

/** A machine that tools run on; without its secrets. */
export interface HostRecord<Settings = SshSettings | HostWorkerSettings> {
  name: string
  settings: Settings
  /** Of password, privateKey, passphrase. */
  secretFields: string[]
  /** Keys that somebody agreed to, as OpenSSH writes them; empty: none yet. */
  hostKeys: string[]
  createdAt: string
}

/** What it takes to reach a host. */
export interface HostAccess {
  record: HostRecord<SshSettings>
  secrets: Record<string, string>
}

/** The worker of a host as workflows know it: what touches the host is its to do. */
export interface HostWorker {
  host: string
  /** Its task queue. */
  queue: string
  /** How long nobody may come for a step until that is said. */
  waitSeconds: number
}

/** What one of them is asked outside of operations. Holds no secret: those of a probe it fetches by its id. */
export type HostQuestion =
  | { ask: 'checks' }
  | {
      ask: 'probe'
      id: string
      connection: { name: string; engine: EngineName; settings: Json; method?: MethodName }
    }
  | {
      ask: 'restore-point'
      id: string
      connection: { name: string; engine: EngineName; settings: Json }
      serverName: string
    }
  | { ask: 'archiving'; id: string; connection: { name: string; engine: EngineName; settings: Json } }

export interface HostQuestionInput {
  version: 1
  worker: HostWorker
  question: HostQuestion
}

export interface DestinationRecord {
  name: string
  kind: DestinationKind
  uri: string
  /** endpoint, region, pathStyle … as in the kind.s form.ts below storage/. */
  settings: Record<string, Json>
  secretFields: string[]
  createdAt: string
}

/** How an operation bears trouble that an operator has to mend. */
export interface Patience {
  /** Nobody watches: it parks from the first step on. Otherwise it does not before its work has begun. */
  unattended: boolean
  /** How long it stays parked before it ends as failed. */
  parkSeconds: number
  /** What may pass by itself is tried again this long after it was parked for it. */
  parkRetrySeconds: number
  /** Nobody asked for it and nobody waits: also what an operator has to mend is tried again by itself. */
  persistent?: boolean
  /** Nothing is at stake: whatever would park it ends it. */
  failsFast?: true
}

/** A backup that another one needs, and where it lies. */
export interface NeededBackup {
  backupId: string
  /** Destinations in the order in which they are tried. */
  copies: string[]
  /** The connection folder it was written under. */
  sourceConnection: string
}

/** How an operation may run; bound when it is accepted. Goes to the workflow as its input. Version it when it changes. */
export interface BackupInput extends Patience {
  version: 1
  operationId: string
  backupId: string
  connection: string
  engine: EngineName
  method: MethodName
  serverIdentity: string
  /** Where it is to be, all of them in one pass of the tool. */
  destinations: string[]
  /** By one of these: what takes its place while it is away. */
  failover: Record<string, string>
  type: BackupType
  /** Of an incremental one: chosen when it was accepted, and pinned until it is made. */
  parent?: NeededBackup
  toolFormat: string
  jobs: number
  compression: Compression
  /** Names of keys to encrypt for; empty: not encrypted. */
  recipients: string[]
  labels: Record<string, string>
  /** A row of ours is written into the database first. */
  canary?: true
  /** A limit as in model/bandwidth.ts. */
  bandwidth?: string
  /** Checked and planned only. */
  dryRun: boolean
  /** The operation that makes it on its way: in its workflow, under its lock. */
  partOf?: string
  /** A server that is there for that operation alone, and no stored connection. Nobody asks it for a password. */
  through?: ConnectionRecord
  /** Where the host of its tools has a worker of its own. */
  hostWorker?: HostWorker
}

export interface RestoreInput extends Patience {
  version: 1
  operationId: string
  backupId: string
  /** Where the backup lies: destinations in the order in which they are tried, and the connection folder it was written under. */
  copies: string[]
  sourceConnection: string
  /** What an incremental backup needs, oldest first. */
  parents?: NeededBackup[]
  targetConnection: string
  targetEngine: EngineName
  targetDatabase: string
  serverIdentity: string
  jobs: number
  noOwner: boolean
  /** A limit as in model/bandwidth.ts. */
  bandwidth?: string
  /** Checked and planned only. */
  dryRun: boolean
  /** Ends a backup that holds the server. */
  preempt: boolean
  /** What is there under the name may be replaced, once somebody has approved the plan. */
  overwriteExisting: boolean
  /** What may be replaced that would be refused otherwise. */
  allow?: Allowance[]
  /** How long the old one is kept after a swap. */
  keepOldSeconds: number
  /** Made under the same lock before anything is replaced. Has an operation of its own. */
  safetyBackup: BackupInput | null
  /** Set for the executing part; null while nobody has approved, and where nobody has to. */
  approvalId: string | null
  /** Phases that another workflow of this operation went through before. */
  before: PhaseRecord[]
  /** Where the host of its target has a worker of its own. */
  hostWorker?: HostWorker
  /** The log is replayed over what was restored. */
  recovery?: RecoveryOrder
}

/** Where a recovery stops. A time has its zone; inclusive: what is exactly there is in the copy. */
export type RecoveryTarget =
  | { kind: 'time'; time: string; inclusive: boolean }
  | { kind: 'lsn'; lsn: string; inclusive: boolean }
  | { kind: 'xid'; xid: string; inclusive: boolean }
  /** As the server calls it; `lsn`: where the catalog knows that it ends, null for one that was made by hand. */
  | { kind: 'name'; name: string; lsn: string | null }
  /** As soon as the base backup is consistent. */
  | { kind: 'immediate' }
  /** The end of the archived log. */
  | { kind: 'latest' }

/** `promote`: a server of its own, on a new timeline; the others leave a copy that goes no further when it is started. */
export type RecoveryAction = 'promote' | 'pause' | 'shutdown'

/** How a base backup is recovered; settled when it was accepted. */
export interface RecoveryOrder {
  target: RecoveryTarget
  timeline: number
  action: RecoveryAction
  /** Where on the host `holdfast wal fetch` finds its configuration. */
  walConfig: string
  /** The new server's; null: as its configuration says. */
  port: number | null
  leaveRunning: boolean
  /** Directory of a socket on which the proven copy is served while a database of it is dumped; null: it is not. */
  socket: string | null
  /** Where the base backup begins and is consistent, and how far the archived log was there. */
  start: string
  stop: string
  end: string
  segmentBytes: number
  /** The destination whose archive it was found in: held until the log was replayed. */
  archive: string
  /** The log file that PostgreSQL asks for first. */
  firstFile: string
}

/** What is asked of a copy besides its proofs, with the answer that is expected: rows by lines, columns by `|`. */
export interface DrillQuery {
  name: string
  sql: string
  expect: string
}

/** A container image with a server's programs, and what runs containers of it. */
export interface Image {
  engine: 'docker' | 'podman'
  image: string
}

/** A restore that never gives its copy a name: loaded, proven, examined, torn down. */
export interface DrillInput extends RestoreInput {
  drill: {
    /** The backup was the newest of its connection when the drill was asked for. */
    newest: boolean
    /** Rows of every table are counted, and the server looks into its own structures. */
    thorough: boolean
    queries: DrillQuery[]
    /** It ends as failed when it takes longer; null: no limit. */
    maxSeconds: number | null
    /** Absent: the host's own programs. */
    container?: Image
  }
}

/** A restore of the base backup beside, and the log over it. */
export interface PitrInput extends RestoreInput {
  recovery: RecoveryOrder
  /** Not the server is wanted, but a database of it: dumped, restored by an operation of its own, and the copy removed. */
  only?: OneDatabase
}

export interface OneDatabase {
  dump: BackupInput
  into: { connection: string; database: string }
  overwriteExisting: boolean
  keepOldSeconds: number | null
  reason: string | null
  /** Who asked: the restore is theirs. */
  by: Pick<Actor, 'name' | 'user' | 'connections'>
}

export interface RetireInput {
  version: 1
  operationId: string
  hostWorker?: HostWorker
}

/** A request for consent and what became of it. */
export interface ApprovalRecord {
  operationId: string
  state: 'planning' | 'waiting' | 'approved' | 'used' | 'rejected' | 'expired' | 'withdrawn'
  requestedBy: string
  /** null: by a token that is nobody's. */
  requestedUser: string | null
  requestedAt: string
  reason: string | null
  expiresAt: string
  planDigest: string | null
  targetName: string | null
  approvalId: string | null
  decidedBy: string | null
  decidedAt: string | null
  decisionReason: string | null
  /** The second person was waived. */
  breakGlass: boolean
  usedByRun: string | null
}

/** What the catalog says of an id that a workflow was told. */
export interface ApprovalVerdict {
  verdict: 'approved' | 'rejected' | 'refused'
  approvalId: string | null
  by: string | null
  reason: string | null
  /** The second person was waived. */
  breakGlass: boolean
}

/** What a swap keeps of the database that it replaced. */
export interface KeptRecord {
  operationId: string
  /** `gone`: somebody took it back, renamed or removed it. */
  state: 'kept' | 'dropped' | 'gone'
  connection: string
  name: string
  identity: string
  look: string
  goBack: string
  keepUntil: string
  endedAt: string | null
}

export interface VerifyInput extends Patience {
  version: 1
  operationId: string
  backupId: string
  /** Destinations of the copies: the first that answers is looked at. */
  copies: string[]
  sourceConnection: string
  level: VerifyLevel
  /** Also brings back from an archive what it has to read: stores take money for that. */
  thaw?: true
}

/** Which key a name meant when it was asked for. */
export interface KeyRef {
  name: string
  kid: string
}

export interface RotateInput extends Patience {
  version: 1
  operationId: string
  from: KeyRef
  to: KeyRef
}

export interface CopyInput extends Patience {
  version: 1
  operationId: string
  backupId: string
  /** Where it is copied to. */
  destination: string
  /** Destinations to read it from, in the order in which they are tried. */
  copies: string[]
  sourceConnection: string
}

export interface ScrubInput extends Patience {
  version: 1
  operationId: string
  /** null: every one. */
  destination: string | null
  level: VerifyLevel
  /** Of stored bytes that are read; null: all there are. */
  budgetBytes: number | null
}

export interface TieringInput extends Patience {
  version: 1
  operationId: string
  destination: string
  /** Ages are counted until then. */
  asOf: string
}

/** Makes a server archive its log. */
export interface EnablePitrInput extends Patience {
  version: 1
  operationId: string
  connection: string
  engine: EngineName
  serverIdentity: string
  /** On the machine of the server: what archive_command calls, with which configuration; null: where that is by itself. */
  program: string
  config: string | null
  timeoutSeconds: number | null
  replace: boolean
  /** Destinations in which the archive is looked for. */
  places: string[]
  /** Checked and planned only. */
  dryRun: boolean
  hostWorker?: HostWorker
}

/** A copy of a backup that is old enough for another class of its store. */
export interface TierMove {
  backupId: string
  connection: string
  bytes: number
  to: string
  /** Classes of its destination's tiers that come after it. */
  colder: string[]
}

export interface ScrubItem {
  backupId: string
  connection: string
  destination: string
  bytes: number
}

export interface ScrubPlan {
  /** The least recently verified first. */
  items: ScrubItem[]
  bytes: number
  /** Committed ones, of which those known as damaged are left out. */
  backups: number
  knownDamaged: number
}

export interface SweepInput extends Patience {
  version: 1
  operationId: string
  /** null: every one, and the staging of every machine. */
  destination: string | null
  /** Also what the catalog does not know. */
  unknown: boolean
  /** Only said, nothing removed. */
  dryRun: boolean
}

export interface SweepPlan {
  destinations: string[]
  /** Task queues of the machines whose workers are there. */
  machines: string[]
  /** Machines over SSH. */
  hosts: string[]
}

/** What a sweep has found, and what becomes of it. */
export type SweptItem =
  | { became: 'removed'; what: string }
  | { became: 'skipped'; what: string; code: ErrorCode; detail: string }

export interface OperationRecord {
  id: string
  kind: OperationKind
  state: OperationState
  /** null: of the whole installation, as the rotation of a key. The same of the next three. */
  connection: string | null
  engine: EngineName | null
  /** The backup made, restored or verified. */
  backupId: string | null
  destination: string | null
  targetDatabase: string | null
  workflowId: string
  runId: string | null
  input:
    | BackupInput
    | RestoreInput
    | PitrInput
    | DrillInput
    | VerifyInput
    | RotateInput
    | CopyInput
    | ScrubInput
    | SweepInput
    | TieringInput
    | EnablePitrInput
  phases: PhaseRecord[]
  checks: CheckResult[]
  /** Why it ended, or why it is parked. */
  error: ErrorFacts | null
  /** Somebody asked for a pause; it takes effect at the next boundary. */
  pauseWanted: boolean
  /** Redacted commands that ran. */
  commands: string[]
  warnings: string[]
  createdAt: string
  endedAt: string | null
}

/** What may change of an operation's row while it is open. */
export interface OperationUpdate {
  state?: OperationState
  phases?: PhaseRecord[]
  checks?: CheckResult[]
  error?: ErrorFacts | null
  pauseWanted?: boolean
  commands?: string[]
  warnings?: string[]
  endedAt?: string
  runId?: string
  workflowId?: string
}

export interface BackupRecord {
  id: string
  connection: string
  engine: EngineName
  method: MethodName
  type: BackupType
  operationId: string | null
  serverIdentity: string
  database: string
  /** `committed`: it exists somewhere. */
  state: 'committed' | 'deleted'
  encrypted: boolean
  toolBytes: number
  storedBytes: number
  startedAt: string
  endedAt: string
  labels: Record<string, string>
  manifest: Manifest
  /** Not made by a Holdfast: `manifest` says what this does, and is signed by nobody. */
  foreign: ForeignFile | null
  /** The one to use first comes first: whole as far as we know, then by age. */
  copies: CopyRecord[]
}

/** A backup without where it lies: the same in every copy. */
export type BackupFacts = Omit<BackupRecord, 'state' | 'copies' | 'foreign'>

/** A backup at one destination: the same manifest, artifacts and keys as in every other one. */
export interface CopyRecord {
  destination: string
  /** `missing`: it is to be there and is not yet. */
  state: 'committed' | 'missing' | 'deleted'
  /** When its manifest was put there, by the clock of the store. */
  committedAt: string | null
  /** What verifications of this copy add up to. */
  verified: Verified | null
  /** Of a missing one: copied there by itself until then. null: somebody has to. */
  wantedUntil: string | null
  /** Of a missing one: why, in words. */
  trouble: string | null
  /** Of the last copying that nobody asked for. */
  operationId: string | null
}

/** A copy that was found at its destination, or is to be there and is not yet. */
export type FoundCopy =
  | { destination: string; committedAt: string }
  | { destination: string; committedAt: null; trouble: string; wantedUntil: string }

/** A destination that a pass goes on without, and why. */
export interface Lost {
  destination: string
  code: string
  detail: string
}

/** DESIGN: written before part 1, kept in the catalog, and beside the file for staged data. */
export interface AttemptRecord {
  attemptId: string
  operationId: string
  backupId: string
  connection: string
  destinations: string[]
  createdAt: string
  artifacts: AttemptArtifact[]
}

export interface AttemptArtifact {
  name: string
  /** Key of the object relative to the destination's prefix. */
  key: string
  /** By destination, once the upload is open there. */
  uploads: Record<string, string>
  /** null: not encrypted. */
  encryption: {
    /** JWE (general JSON) of the 32-byte data key for the recipients: what goes into the destination. */
    jwe: Record<string, Json>
    /**
     * The same for this installation alone, which goes on with the upload after a crash; null once the operation is closed:
     * what can only encrypt must not be able to read what it has written.
     */
    own: Record<string, Json> | null
    /** base64url, 32 bytes. */
    salt: string
    /** base64url, 7 bytes. */
    noncePrefix: string
    associatedData: string
  } | null
  encoder: string
  compression: Compression
}

/** A staging directory with the workers that use it, as workflows know it. */
export interface Machine {
  /** Task queue of those workers alone. */
  queue: string
  /** How long nobody may answer for it until an operation begins anew elsewhere. */
  waitSeconds: number
}

/** Which installation we are and which epoch we hold at a destination. */
export interface WriterIdentity {
  installationId: string
  instanceId: string
  /** Ed25519 public key as JWK. */
  publicKey: Record<string, string>
}

/** A step that moves bytes between a host and a destination, and asks how fast it may. */
export interface Transfer {
  /** Random. */
  transfer: string
  operationId: string
  destination: string
  host: string
  /** Bytes per second that it could use; null: as many as there are. */
  wanted: number | null
}

/** What an operation is going to write to staging: what its tools write, or what is kept of a download. */
export interface StagingClaim {
  operationId: string
  purpose: 'tools' | 'download'
  /** Tells the file systems of all machines apart. */
  fileSystem: string
  /** In all, of which `writtenBytes` are there already; `freeBytes` are free besides. */
  bytes: number
  writtenBytes: number
  freeBytes: number
  /** `look`: nothing is promised. `ask`: only if there is room. `tell`: it has begun, and this is how far it is. */
  how: 'look' | 'ask' | 'tell'
}

/** What an operation was promised and has not written yet. */
export interface StagingPromise {
  operation: string
  connection: string
  bytes: number
}

export interface StagingRoom {
  granted: boolean
  /** To others, on that file system. */
  promised: StagingPromise[]
}

/** Something of the operator's that runs around a backup or a restore. */
export interface Hook {
  /** Unique among the hooks of its connection. */
  name: string
  of: 'backup' | 'restore'
  at: 'before' | 'after'
  /** `always`: also after the operation failed or was cancelled. For `after` only. */
  when: 'success' | 'always'
  /** A program with its arguments, run without a shell on the host of the tools; or SQL through the engine's own client. */
  run: { argv: string[] } | { sql: string }
  /** Environment variables of the program whose values are secrets of the connection: variable to field. */
  secretEnv: Record<string, string>
  timeoutSeconds: number
  /** What its failure means for the operation. */
  onFailure: 'fail' | 'warn'
}

/** How a hook went. Recorded when it begins and when it has ended; one that has ended is not run again. */
export interface HookRun {
  name: string
  startedAt: string
  endedAt: string | null
  ok: boolean | null
  detail: string
}

/** One entry of an operation's log: what a hook or a tool printed. */
export interface LogEntry {
  /** Names the entry within its operation: told twice, it is kept once. */
  id: string
  at: string
  /** Who printed it: `hook NAME`, `pg_dump, custom format`. */
  source: string
  /** Secrets of the connection are replaced. */
  text: string
}

/** The stored, digested plan of an operation. */
export interface StoredPlan {
  operationId: string
  digest: string
  /** engines' BackupPlan or RestorePlan with what they were made from; see activities/plan.ts. */
  plan: Json
}

/** Who asks, as the API found out. */
export interface Actor {
  /** As audit rows say it: the user's name, or `token:NAME` for a token that is nobody's. */
  name: string
  user: string | null
  via: 'token' | 'session'
  /** Of the token or session. */
  credentialId: string
  /** What may be done now: of the token and its owner the lesser. */
  role: Role
  /** null: everything the role may; else only these, e.g. `backups:write`. */
  scopes: string[] | null
  /** null: all; else it may touch only these, see api/reach.ts. */
  connections: string[] | null
  /** When the token or session ends by itself. */
  expiresAt: string | null
  /** Where the request came from. */
  address: string
}
