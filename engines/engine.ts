/**
 * The engine seam: an engine plans, it does not act. Everything here is data that is stored, shown by a dry run,
 * unit-tested and executed byte for byte as it is. Engines know neither Temporal nor HTTP nor each other.
 */
import type { z } from 'zod'
import type { ArchivingFacts } from '../model/archiving.ts'
import type { Canary } from '../model/canary.ts'
import type { HoldfastError } from '../model/errors.ts'
import type { Manifest } from '../model/manifest.ts'
import type { Image, RecoveryOrder } from '../model/records.ts'
import type { Replayed } from '../model/replayed.ts'
import type {
  Allowance,
  BackupType,
  CheckResult,
  DestinationKind,
  EngineName,
  Json,
  MethodName,
} from '../model/types.ts'
import type { DirectoryReader, FormatReader } from './reading.ts'

/** Names a secret of a connection; the value is fetched when the step runs and never stored in a plan. */
export interface SecretRef {
  connection: string
  field: string
}

/** One program of a pipe. `argv[0]` is looked up on the host's PATH. Never a shell string, never a secret. */
export interface Stage {
  argv: readonly [string, ...string[]]
  /** Plain environment of this program only. */
  env?: Record<string, string>
  /** Environment variables of this program only whose values are secrets. One that is not stored is left out. */
  secretEnv?: Record<string, SecretRef>
  /** Reads or writes its stream in pieces of a few KiB: gets larger buffers where the host has a way to give them. */
  smallPieces?: true
}

/**
 * One or more programs joined by pipes, run as one process group on the host, in the operation's staging directory
 * (relative names are meant). Every stage's exit counts.
 */
export interface Command {
  stages: readonly [Stage, ...Stage[]]
  /** Text for the first program's standard input, e.g. SQL. Not with `feeds`. No secrets. */
  input?: string
}

export type StepId = string

/** Where a step's standard output goes. Nothing said: it is captured (at most 4 MiB) as the step's output. */
export type Output =
  | { to: 'capture' }
  /** Streamed: compressed, sealed and sent to the destination as this artifact; the step runs again after a crash. */
  | { to: 'artifact'; artifact: string }
  /** Written to this file in staging (relative). The step is detached and re-attached after a crash. */
  | { to: 'staging'; file: string }
  /** Discarded; the program itself writes into staging (relative names) or into the target. */
  | { to: 'none' }

export interface Step {
  id: StepId
  /** What a DBA would call it: "pg_dump, custom format". Shown in progress. */
  title: string
  run: Command
  output: Output
  /** The named artifact, opened and decompressed, is fed to the first program's standard input; "complete" is said
   * only when the whole artifact has proven itself. */
  feeds?: {
    artifact: string
    /** The id of another backup: one that this one needs. */
    of?: string
  }
  /**
   * Consecutive steps of one group restart together from the group's first step (e.g. create + load: a load that is
   * repeated must begin from an empty database). Without a group a step is repeated alone.
   */
  group?: string
  /**
   * `restart`: runs again from its start after a crash. `attach`: a detached job that is re-attached; one that vanished
   * without an exit code is started again in an emptied staging directory, with the steps before it.
   */
  resume: 'restart' | 'attach'
  /** Exits 0 if the step's effect is there already (asked before a run again). */
  done?: Command
  /** Takes the step's effect back when the operation is given up; must succeed when there is nothing to take back. */
  undo?: Command
  /** What it writes into, for errors: where "no space left" came from. */
  writesTo?: 'staging' | 'target'
}

/** An artifact that a plan makes. */
export interface ArtifactSpec {
  /** e.g. `shop.dump`; a safe file name made by the engine. */
  name: string
  format: string
  /**
   * Streamed from this step's standard output; or, once every step ended, a staged file; or a staged directory as one
   * deterministic tar (members below the directory, names sorted, no owners, times or modes of this machine).
   */
  from: { step: StepId } | { file: string } | { directory: string }
  /** The tool's bytes must end with this text (after trailing white space is cut), where the format has a trailer. */
  trailer?: string
  /** The tool's bytes must begin with this text, where the format has a signature. */
  header?: string
}

export interface ServerFacts {
  /** What the server says it is; locks are named by it. Letters, digits, `.:-/_` only. */
  identity: string
  version: string
  /** The database (or file) this connection means. */
  database: string
  /** Estimated bytes of the database, for prechecks and ETA. */
  sizeBytes: number
  /** Where its files lie on the connection's host; absent: elsewhere, or it does not say. */
  directory?: string
  /** What the engine's own planning and restoring need. Goes into the manifest: no secrets, integers only. */
  facts: Record<string, Json>
  tools: { name: string; version: string }[]
}

export interface BackupRequest {
  connection: string
  type: BackupType
  /** One of the method's `formats`. */
  toolFormat: string
  /** Parallel jobs where the tool has them. */
  jobs: number
  /** Of an incremental one: what it is made against. */
  parent?: Manifest
}

export interface BackupPlan {
  steps: Step[]
  artifacts: ArtifactSpec[]
}

export interface RestoreTarget {
  /** The connection whose server receives the restore. */
  connection: string
  /** New database name (or new file path). Must not exist, unless `replaces` says who is there. */
  database: string
  /** Who is there under that name, and is to be replaced: the plan gets a `swap`. */
  replaces?: ExistingTarget
  /** What of it would be refused otherwise. */
  allow?: readonly Allowance[]
  /** Random, minted with the plan: temporary names carry it, so that cleaning up can never meet somebody else's. */
  token: string
  jobs: number
  /** Leave owners and grants out. */
  noOwner: boolean
  /** The log is to be replayed over it: the plan gets a `replay`. */
  recovery?: RecoveryOrder
  /** What the backup needs, oldest first: a full one, and what was made against it. Absent: nothing. */
  parents?: readonly Manifest[]
}

export interface RestorePlan {
  /** After `steps`, of a recovery: brings the copy to its target. Detached; taken up again where a run of it was killed. */
  replay?: Step
  /** After the proofs, of a recovery that is for one database: the copy as a server on a socket of its own. Detached; `done` once it answers. */
  serve?: Step
  /** Brings the data to a temporary place that carries the token; `proofs` run after the last of them. */
  steps: Step[]
  /** After the proofs: gives the restored database its final name, atomically; each has a `done` check. Empty with a swap. */
  finish: Step[]
  /** Instead of `finish`, where something is there under the final name. */
  swap?: Swap
  /** In words, what this destroys. Empty for restores beside. */
  destroys: string[]
  /** Runs when the restore is given up, after the swap was rolled back; removes only what carries our token. */
  undo: Command[]
}

/** How a `replay` is followed and read. */
export interface Recovery {
  /** What a logical connection to the copy is made of, where it is served by a socket in this directory. */
  served(manifest: Manifest, socket: string, database: string): { settings: Json; serverIdentity: string }
  /** Paths on the host: what the server said last, and what is there once it has ended well. */
  files(target: RestoreTarget): { progress: string; result: string }
  /** Bytes of the log since the base backup began, and where that is. */
  soFar(order: RecoveryOrder, line: string): { bytes: number; note: string } | undefined
  /** Throws `restore.proof-failed` where it is not what the target names. */
  read(order: RecoveryOrder, result: string): Replayed
  /** What its failure means; undefined: what the engine says of it. */
  explain(result: CommandResult, order: RecoveryOrder): HoldfastError | undefined
}

/** What is there under a target's name. */
export interface ExistingTarget {
  /** Who it is (PostgreSQL: system identifier and OID; SQLite: device, inode and real path). What replaces it asserts this. */
  identity: string
  /** For people: name, place, identity, size. */
  words: string
  sizeBytes: number
  /** What the engine's planning needs. No secrets, integers only. */
  facts: Record<string, Json>
}

/**
 * How the proven copy takes the place of what is there. Killed between any two instructions, there is the old database or
 * the new one, whole. Each step asserts within its own transaction or script that it meets whom the plan names.
 */
export interface Swap {
  /** After the proofs; touches the copy only. */
  prepare: Step[]
  /** Replaces, and keeps the old one aside under a name that carries the token. Has a `done` check. */
  exchange: Step
  /** After the second proofs: hands over to clients. No automatic way back from then on. Has a `done` check. */
  open: Step
  /** Brings the old one back. Never run once `open` was done; its `done` check says that there is nothing to bring back. */
  rollBack: Step
  /** The old one, while it is kept. */
  kept: {
    name: string
    /** Prints the identity of what is kept; fails or prints nothing when there is nothing. */
    identify: Command
    /** For people: how to look into it, how to go back to it by hand. */
    look: string
    goBack: string
  }
}

/** A read-only question to the host: commands first, then a verdict read from what they printed. */
export interface Probe<Answer> {
  commands: Record<string, Command>
  /** Exit code, captured output and stderr tail per command. Throws HoldfastError with the right code. */
  read(outputs: Record<string, CommandResult>): Answer
}

export interface RestorePoint {
  systemIdentifier: string
  timeline: number
  lsn: string
  /** By the server's clock. */
  createdAt: string
}

/** What a server says of its archiving; the engine's own. */
export type ArchivingState = Record<string, Json>

export interface ArchivingRequest {
  /** Of the machine of the server: the launcher, and the file that says where its log goes; null: where it is by itself. */
  program: string
  config: string | null
  /** After which a segment is ended that is not full; null: only if there is no such time yet. */
  timeoutSeconds: number | null
  /** Another archiver is replaced. */
  replace: boolean
}

export interface SettingChange {
  name: string
  to: string
  /** It takes effect with the next start of the server. */
  restart: boolean
  /** What is set when it is taken back; null: nothing, as before. */
  former: string | null
}

export interface ArchivingPlan {
  systemIdentifier: string
  /** Empty: all is as it should be. */
  changes: SettingChange[]
  /** In words, what ends with it. */
  destroys: string[]
  warnings: string[]
  /** Asserts that it is the server of the plan. May be run again. */
  set: Command
  /** Takes back what is still as it was set. May be run again, and where nothing was set. */
  takeBack: Command
}

/** How far a server's archiver is; `segment` was ended just now. */
export interface ArchivedSoFar {
  segment: string | null
  lastArchived: string | null
  archived: number
  failed: number
  lastFailed: string | null
}

/** How a server is made to hand over its log, and how one sees that it does. */
export interface LogArchiving<Connection = unknown> {
  /** How it archives just now. Read-only. */
  now(connection: string, settings: Connection): Probe<ArchivingFacts>
  /** What a DBA should hear of it. */
  checks(facts: ArchivingFacts): CheckResult[]
  /** What is set, and whether this role may change it. Read-only. */
  state(connection: string, settings: Connection): Probe<ArchivingState>
  /** Throws `wal.other-archiver`, `wal.refused`, `database.privilege`. */
  plan(
    connection: string,
    settings: Connection,
    request: ArchivingRequest,
    state: ArchivingState,
  ): ArchivingPlan
  /** Names of changes that do not have their effect yet. */
  notInEffect(connection: string, settings: Connection, changes: readonly SettingChange[]): Probe<string[]>
  /** Ends the segment that is written. */
  endSegment(connection: string, settings: Connection): Probe<ArchivedSoFar>
  soFar(connection: string, settings: Connection): Probe<ArchivedSoFar>
  /** Of what `takeBack` printed: changes that have taken effect, and go with the next restart only. */
  leftBy(result: CommandResult, connection: string): string[]
  readonly streaming: LogStreaming<Connection>
}

/** Where a server is in its log, and the slot that makes it keep what was not received yet. */
export interface SlotLook {
  systemIdentifier: string
  timeline: number
  lsn: string
  segmentBytes: number
  /** null: there is none of that name. `received`: what a receiver has on disk. */
  slot: {
    active: boolean
    received: string | null
    retainedBytes: number | null
    walStatus: string | null
  } | null
}

/** How a server's log is received by a program on a host, through a slot. */
export interface LogStreaming<Connection = unknown> {
  look(connection: string, settings: Connection, slot: string): Probe<SlotLook>
  /** May be run again. */
  createSlot(connection: string, settings: Connection, slot: string): Command
  dropSlot(connection: string, settings: Connection, slot: string): Command
  /** Writes into this directory below staging until its connection ends; goes on there after the newest file. */
  receive(connection: string, settings: Connection, slot: string, directory: string): Command
  /** Ends whoever receives through the slot just now. */
  endOthers(connection: string, settings: Connection, slot: string): Command
  /**
   * Why `receive` has ended. `lost`: what comes next is not there any more; `left`: it is, and can be had only from an empty directory;
   * `taken`: somebody else receives through the slot.
   */
  endedBecause(result: CommandResult): 'lost' | 'left' | 'taken' | 'other'
}

export interface CommandResult {
  /** Exit code of each stage; 128+n for a signal; 127 for a program that is not there. */
  exits: number[]
  stdout: string
  stderrTail: string
}

/** What a drill asks of a copy besides its proofs. */
export interface Examination {
  /** Run in this order, read-only where the server lets us say so; the first error ends the asking. */
  queries: readonly { name: string; sql: string; expect: string }[]
  /** Counts the rows of every table, and has the server look into its own structures. */
  thorough: boolean
  /** Looks for what was written before the backup. */
  canary: boolean
}

export interface Examined {
  checks: CheckResult[]
  /** `expected`: as the manifest has it, which may be an estimate; null: it says nothing of that table. */
  rows: { table: string; rows: number; expected: number | null }[]
  /** null: not looked for, or there is none of that connection. */
  canary: Canary | null
}

/** A program that has to be on the machine that runs it. */
export interface Tool {
  program: string
  versionArgs: readonly string[]
  /** What it is needed for, in a few words. */
  purpose: string
  /** Name of the package by package manager: `apt`, `dnf`, `brew`, `apk`. */
  packages: Readonly<Record<string, string>>
  /** Only backups and restores of this method need it; absent: all do. */
  method?: MethodName
  /** Whether a tool that says this version may be used with a server of that one; absent: any may. */
  reaches?(said: string, serverVersion: string): boolean
}

export interface Engine<Connection = unknown> {
  readonly name: EngineName
  readonly title: string
  readonly tools: readonly Tool[]
  /** The connection's settings without secrets; `secretFields` names those kept apart, encrypted. */
  readonly connection: z.ZodType<Connection>
  readonly secretFields: readonly string[]
  /** Reads the URL or path a person types. Throws HoldfastError `request.invalid` naming the field. */
  parseUrl(url: string): { settings: Connection; secrets: Record<string, string> }
  /** The database (or file) that a connection means. */
  databaseOf(settings: Connection): string
  /** For tables and logs: the address without secrets. */
  describe(settings: Connection): string
  /** What a restored copy of `database` may be called beside it; `mark` is digits and `_`, and tells copies apart. */
  nameBeside(database: string, mark: string): string
  /** What its tools write, also formats that we do not make; those that claim the same beginnings in the order of the asking. */
  readonly readers: readonly FormatReader[]
  readonly directoryReaders: readonly DirectoryReader[]
  readonly methods: { logical?: Method<Connection>; physical?: Method<Connection> }
  /** The method of a connection that names none. */
  readonly defaultMethod: MethodName
  /** Identity, version, sizes, privileges, tools. Read-only. `method`: also what that one has to know. */
  probe(connection: string, settings: Connection, method?: MethodName): Probe<ServerFacts>
  /**
   * Like `probe`, for the server a restore writes to: it answers although the connection's own database (file) is gone. A method
   * that restores without a server asks the host alone: the identity is '' then, and nobody compares it. `image`: its programs are
   * in a container image, and so are those of the plan that is made from these facts; see `Method.fromImages`.
   */
  probeTarget(
    connection: string,
    settings: Connection,
    method?: MethodName,
    image?: Image,
  ): Probe<ServerFacts>
  /** Names a place in the server's log, to recover to. Changes nothing else. Absent: there is no such thing. */
  restorePoint?(connection: string, settings: Connection, name: string): Probe<RestorePoint>
  /** Absent: there is no log to archive. */
  readonly archiving?: LogArchiving<Connection>
  /**
   * Leaves a row of ours in the connection's database, in place of the one before it: a copy in which it is found is as fresh as
   * that. Waits for nobody's lock for long. Prints where the server's log was then, where it has one.
   */
  writeCanary(connection: string, settings: Connection, canary: Omit<Canary, 'lsn'>): Command
  /**
   * SQL of the operator's through the engine's own client, with the connection's credentials; ends at the first error.
   * `own`: the connection's database; `server`: where that may not exist; or a database by its name (path).
   */
  statement(
    connection: string,
    settings: Connection,
    sql: string,
    place: 'own' | 'server' | { database: string },
  ): Command
  /** What a failed command of this engine means (authentication, unreachable, full target …); undefined: tool.failed. */
  explain(
    result: CommandResult,
    step: { title: string; writesTo?: 'staging' | 'target' },
  ): HoldfastError | undefined
}

export interface Method<Connection = unknown> {
  readonly name: MethodName
  readonly backupTypes: readonly BackupType[]
  /** What the tool can write; the first is the default. */
  readonly toolFormats: readonly string[]
  readonly destinations: readonly DestinationKind[]
  readonly consistency: 'snapshot' | 'point-in-time' | 'fuzzy'
  readonly storage: 'artifacts' | 'native'
  readonly swap: 'rename' | 'directory' | 'in-place' | 'none'
  /** A copy that is thrown away can be started by programs out of a container image. */
  readonly fromImages?: true
  /** Readiness for a backup, from facts alone. */
  checks(settings: Connection, request: BackupRequest, facts: ServerFacts): CheckResult[]
  planBackup(settings: Connection, request: BackupRequest, facts: ServerFacts): BackupPlan
  /** Whether an incremental backup can be made against this one at all. Absent: there are none. */
  mayBeParent?(manifest: Manifest): boolean
  /** What only the finished tool knows, from what each step said on standard error; goes into the manifest's facts. */
  collect?(said: Readonly<Record<StepId, string>>): Record<string, Json>
  /** Who is there under the name that a restore is to write; undefined: nobody. Read-only. */
  existing(
    settings: Connection,
    connection: string,
    database: string,
    allow?: readonly Allowance[],
  ): Probe<ExistingTarget | undefined>
  /** `targetFacts` are `probeTarget` of the target's connection. Throws `restore.mismatch`. */
  planRestore(
    settings: Connection,
    target: RestoreTarget,
    manifest: Manifest,
    targetFacts: ServerFacts,
  ): RestorePlan
  /** Asks whether the target may be written (does not exist or is whom the plan replaces, roles are there …). Read-only. */
  targetChecks(settings: Connection, target: RestoreTarget, manifest: Manifest): Probe<CheckResult[]>
  /**
   * Probes the restored database, under its temporary name or in the target's place, and compares it with the manifest.
   * Read-only, but for what a server does to its own files when it starts. `targetFacts`: those of the plan.
   */
  proofs(
    settings: Connection,
    target: RestoreTarget,
    manifest: Manifest,
    place?: 'temporary' | 'swapped',
    targetFacts?: ServerFacts,
  ): Probe<CheckResult[]>
  /** Asks the proven copy under its temporary name, as `proofs` does. What it makes there goes with the copy. */
  examine(
    settings: Connection,
    target: RestoreTarget,
    manifest: Manifest,
    examination: Examination,
    targetFacts: ServerFacts,
  ): Probe<Examined>
  /** Of a method whose backups can be recovered to a place in the server's log. */
  readonly recovery?: Recovery
  /** It restores a directory with the host's own programs and asks no server: a URL that stands for one where there is none. */
  readonly directoryUrl?: string
  /** Where the engine's own `nameBeside` is not meant: what a restored copy of this backup may be called. */
  nameBeside?(manifest: Manifest, mark: string): string
  /** Removes what a swap kept, if it is still who it was: same name, same identity, our mark. Succeeds when it is not. */
  dropKept(settings: Connection, connection: string, kept: { name: string; identity: string }): Command
}
