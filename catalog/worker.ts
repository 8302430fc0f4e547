/**
 * What a worker may ask the process that owns the catalog. Served by api/internal.ts under `/internal/v1` with a worker
 * token, called through catalog/client.ts. A worker never holds the installation's keys: it asks for the act.
 * Methods throw HoldfastError; `api.unreachable` is transient. All are idempotent: a lost answer is asked for again.
 */
import type { DrillReport } from '../model/drill-report.ts'
import type { ErrorFacts } from '../model/errors.ts'
import type { ForeignFile, ForeignReading } from '../model/foreign.ts'
import type { LogStreamRecord, LogStreamState, SlotEnd } from '../model/log-stream.ts'
import type { Manifest, SignedManifest } from '../model/manifest.ts'
import type {
  ApprovalVerdict,
  AttemptRecord,
  BackupFacts,
  ConnectionRecord,
  DestinationRecord,
  FoundCopy,
  Hook,
  HookRun,
  HostAccess,
  KeptRecord,
  LogEntry,
  OperationUpdate,
  ScrubPlan,
  StagingClaim,
  StagingRoom,
  StoredPlan,
  SweepPlan,
  SweptItem,
  TierMove,
  Transfer,
  WriterIdentity,
} from '../model/records.ts'
import type { Replayed } from '../model/replayed.ts'
import type { DueAnswer } from '../model/schedules.ts'
import type { Json } from '../model/types.ts'
import type { Verified } from '../model/verified.ts'
import type { WalHeader } from '../model/wal-format.ts'
import type { Standing } from './sweeps.ts'

/** What stands between a restore that may not wait and its server: nothing, a backup that was told to end, or what is not ended. */
export type Way = 'free' | 'leaving' | 'held'

export interface WorkerCatalog {
  connection(name: string): Promise<ConnectionRecord>
  /** Secret values of one connection by field. */
  connectionSecrets(name: string): Promise<Record<string, string>>
  /** Names the task queue of a host to the worker that lives there. */
  ownWorker(host: string): Promise<string>
  /** Of a connection that the worker of its host is asked about; for that worker alone. */
  probeSecrets(id: string): Promise<Record<string, string>>
  /** Name of the host that the tools of an operation run on; `local` for one that has none, or is not known. */
  hostOf(operationId: string): Promise<string>
  host(name: string): Promise<HostAccess>
  destination(name: string): Promise<{ record: DestinationRecord; secrets: Record<string, string> }>

  /** First plan wins: storing another one for the same operation returns the stored one. */
  storePlan(plan: StoredPlan): Promise<StoredPlan>
  plan(operationId: string): Promise<StoredPlan | undefined>

  /** Refused with `operation.conflict` once the operation is closed (a zombie may not begin anew). Upserts by attemptId. */
  recordAttempt(attempt: AttemptRecord): Promise<void>
  attempts(operationId: string): Promise<AttemptRecord[]>

  writer(): Promise<WriterIdentity>
  /** The epoch we hold at this destination, as the catalog remembers; null before the first claim. */
  rememberedEpoch(destination: string): Promise<number | null>
  rememberEpoch(destination: string, epoch: number): Promise<void>

  /**
   * Wraps a fresh 32-byte data key: `jwe` for the named recipients, `own` for this installation alone. `dataKey` is base64url.
   */
  wrapDataKey(
    dataKey: string,
    recipients: readonly string[],
  ): Promise<{ jwe: Record<string, Json>; own: Record<string, Json> }>
  /** Opens with any key held here; throws `key.missing` naming the recipients it was wrapped for. Returns base64url. */
  unwrapDataKey(jwe: Record<string, Json>): Promise<string>
  /** What the scrub of this operation is to look at. Asked again it may answer otherwise: what was verified meanwhile comes last. */
  planScrub(operationId: string): Promise<ScrubPlan>
  /** A scrub could not read it as it lies: its turn comes again after the others. */
  recordPassedOver(backupId: string, destination: string): Promise<void>
  /** What the tiering of this operation is to move. What it has moved is not among it any more. */
  dueMoves(operationId: string): Promise<TierMove[]>
  /** Nobody uses it there. */
  mayMove(destination: string, backupId: string): Promise<boolean>
  /** Its artifacts were moved to this class; null: somebody brings them back. */
  recordTier(backupId: string, destination: string, tier: string | null): Promise<void>
  /** What the sweep of this operation is to go over. */
  planSweep(operationId: string): Promise<SweepPlan>
  /** Whose folders of backups at a destination are, one answer for each. To be asked after the store was looked at. */
  standings(operationId: string, destination: string, backupIds: readonly string[]): Promise<Standing[]>
  /**
   * The same of one folder, which from now on is claimed by this sweep unless it is in use; its former claim is given up. Throws
   * `operation.conflict` once the sweep is closed.
   */
  claimLeftovers(operationId: string, destination: string, backupId: string): Promise<Standing>
  unclaim(operationId: string): Promise<void>
  /** Backups of the last weeks that closed operations were to make there, and that are nowhere. */
  recentlyEnded(destination: string): Promise<{ connection: string; backupId: string }[]>
  /** Of those that the catalog knows. */
  statesOf(operationIds: readonly string[]): Promise<Record<string, 'open' | 'closed'>>
  /** What a sweep removes or leaves at a place. Told twice, it is kept once. Answers how much was told of the place so far. */
  noteSwept(
    operationId: string,
    place: string,
    items: readonly SweptItem[],
  ): Promise<{ removed: number; skipped: number }>
  noteUnswept(operationId: string, place: string, error: Pick<ErrorFacts, 'code' | 'detail'>): Promise<void>
  /** New backups are encrypted for the rotation's new key from now on. Returns the destinations to go over. */
  beginRotation(operationId: string): Promise<{ destinations: string[]; trustsMore: boolean }>
  /**
   * The data keys of one backup for the rotation's new key and those that stay. `wrapped`: newest first. Throws `key.locked`,
   * `key.missing`.
   */
  rewrapDataKeys(
    operationId: string,
    artifacts: readonly { name: string; wrapped: Record<string, Json>[] }[],
  ): Promise<{ name: string; jwe: Record<string, Json> }[]>
  /** What the old key opens and the new one does not, as far as the catalog knows. */
  leftByRotation(operationId: string): Promise<{ destination: string; backup: string }[]>
  /** Ids of the backups at a destination that the key is known to open. */
  openedAt(destination: string, kid: string): Promise<string[]>
  /** Which keys open a backup at a destination; none where it is not encrypted. Adds to what is known. */
  recordOpeners(
    place: { destination: string; connection: string; backupId: string },
    kids: readonly string[],
  ): Promise<void>
  /** The destination says so: its marker is there. */
  markDeleted(backupId: string, destination: string): Promise<void>
  signManifest(manifest: Manifest): Promise<SignedManifest>
  /** Public keys (JWK) by installation id that this Holdfast trusts: its own and those in key files. */
  trustedInstallations(): Promise<Record<string, Record<string, string>>>

  /** Upserts the backup by its id, and these of its copies by their destination. */
  recordBackup(backup: BackupFacts, copies: readonly FoundCopy[]): Promise<void>
  /** Description of a foreign backup. Throws `backup.not-found`. */
  foreign(backupId: string): Promise<ForeignFile>
  /** What is known stays: throws `artifact.corrupted` where a hash is known and is another one. */
  recordForeignReading(backupId: string, reading: ForeignReading): Promise<void>
  recordVerification(backupId: string, destination: string, found: Verified): Promise<void>

  /** The plan of a destructive operation is stored: from now on it may be approved. */
  wantApproval(
    operationId: string,
    wanted: { planDigest: string; targetName: string },
  ): Promise<{ expiresAt: string }>
  /** What an id means that somebody signalled. What is not the id of the decision is refused, and audited. */
  weighApproval(operationId: string, approvalId: string): Promise<ApprovalVerdict>
  /** The time is over; a decision of the last moment counts. */
  expireApproval(operationId: string): Promise<ApprovalVerdict>
  withdrawApproval(operationId: string): Promise<void>
  /** Uses it up for one run and one plan; the same run may ask again. Throws `approval.*`. */
  useApproval(
    operationId: string,
    use: { approvalId: string; runId: string; planDigest: string },
  ): Promise<void>
  /** Before a destructive step. Refused unless this run used the approval, and once the operation is closed. */
  beginDestructive(operationId: string, step: string, runId: string): Promise<'new' | 'started' | 'finished'>
  finishDestructive(operationId: string, step: string): Promise<void>
  destructiveSteps(operationId: string): Promise<Record<string, 'started' | 'finished'>>
  beginRollBack(operationId: string): Promise<void>
  recordKept(kept: KeptRecord): Promise<void>
  kept(operationId: string): Promise<KeptRecord | null>
  endKept(operationId: string, state: 'dropped' | 'gone'): Promise<void>
  /** The row of the backup that an operation makes on its way; there already after a lost answer. */
  openPart(wholeId: string, runId: string): Promise<void>
  /** Asks for the restore of the one database that a recovery was for. However often it is asked, there is one operation. */
  restoreDump(recoveryId: string): Promise<string>

  /** What a drill has found in its copy. */
  noteExamined(operationId: string, found: Pick<DrillReport, 'rows' | 'canary'>): Promise<void>
  /** Where the replay of a log over its copy has ended. */
  noteReplayed(operationId: string, replayed: Replayed): Promise<void>
  /** Nothing is left of what it has made. */
  noteTornDown(operationId: string): Promise<void>
  /** Writes and signs the report of a drill that has ended. Throws `drill.no-report` of one that has not. */
  writeDrillReport(operationId: string): Promise<void>

  /** Partial update of the operation's row; a closed row changes no more (returns false). */
  updateOperation(operationId: string, update: OperationUpdate): Promise<boolean>
  /** Does somebody want the operation to pause? */
  pauseWanted(operationId: string): Promise<boolean>
  /** What a transfer may use now. Asked again every few seconds; who no longer asks gets no share any more. */
  /** Promises room in staging, if there is some that is not promised to others. Throws `operation.conflict` once the operation is closed. */
  claimStaging(claim: StagingClaim): Promise<StagingRoom>
  /** Nothing more of it is written. */
  releaseStaging(operationId: string, purpose: StagingClaim['purpose']): Promise<void>
  bandwidthShare(transfer: Transfer): Promise<{ bytesPerSecond: number | null }>
  /** Hooks of a connection, in their order. */
  hooks(connection: string): Promise<Hook[]>
  hookRun(operationId: string, hook: string): Promise<HookRun | undefined>
  /** Upserts by name; one that has ended stays as it ended. */
  recordHookRun(operationId: string, run: HookRun): Promise<void>
  /** Told twice, it is kept once; beyond a bound it is dropped, and the log says so. */
  appendLog(operationId: string, entry: LogEntry): Promise<void>
  /** Which of these operations are closed: whose jobs and staging may go. What is unknown is not ours. */
  closedOperations(operationIds: readonly string[]): Promise<string[]>

  /** Ends the backup that holds the server of an approved restore that may not wait. Throws `approval.not-wanted`. */
  makeWay(operationId: string): Promise<Way>
  /** How the log of a connection is to be streamed; null: not, and never was or not any more. */
  logStream(connection: string): Promise<LogStreamRecord | null>
  /** How far it is. Answers what is wanted now. */
  noteLogStream(connection: string, state: LogStreamState): Promise<LogStreamRecord | null>
  /** It was stopped as wanted. */
  endLogStream(connection: string, slotEnd: SlotEnd): Promise<void>
  /** In the name of this installation. Refused unless the log of that connection is streamed. */
  signLogHeader(header: WalHeader): Promise<string>
  /** Asks for the operation of one due time of a schedule. However often it is asked, there is one operation. */
  startDue(due: { scheduleId: string; dueAt: string }): Promise<DueAnswer>
}
