/** Records as the API shows them: never a secret, never a plan's internals. */
import type { StoredConnection } from '../catalog/connections.ts'
import type { StoredDestination } from '../catalog/destinations.ts'
import type { DrillRecord } from '../catalog/drills.ts'
import type { StoredHost } from '../catalog/hosts.ts'
import { fingerprint, keyType } from '../hosts/ssh/index.ts'
import { compressionAdvice, compressionWords } from '../model/compression.ts'
import { rpoOf, rtoOf, verdictOf } from '../model/drill-report.ts'
import type { ForeignFile } from '../model/foreign.ts'
import type {
  ApprovalRecord,
  BackupRecord,
  CopyRecord,
  KeptRecord,
  OperationRecord,
} from '../model/records.ts'
import {
  type ApprovalView,
  type BackupView,
  type ConnectionView,
  type DestinationView,
  type DrillSummary,
  type DrillView,
  type HostView,
  type OperationView,
  progressView,
} from '../model/views.ts'
import { placeNames } from '../storage/index.ts'
import { heartbeatsOf, type Run, type TemporalAccess } from './temporal.ts'

export const connectionViewOf = (connection: StoredConnection): ConnectionView => ({
  name: connection.name,
  engine: connection.engine,
  method: connection.method,
  address: connection.address,
  host: connection.host,
  serverIdentity: connection.serverIdentity,
  serverVersion: connection.serverVersion,
  secrets: connection.secretFields,
  twoPerson: connection.twoPerson,
  canary: connection.canary,
  createdAt: connection.createdAt,
})

const hostKeyViewOf = (key: string) => ({ type: keyType(key), fingerprint: fingerprint(key) })

/** `shown`: the key that the machine showed just now. */
const notOverSsh = {
  kind: 'worker',
  address: null,
  port: null,
  user: null,
  runAs: null,
  tempDir: null,
  through: null,
  agent: false,
} as const

export const hostViewOf = (host: StoredHost, shown: string | null): HostView => ({
  name: host.name,
  ...('worker' in host.settings ? notOverSsh : { kind: 'ssh', ...host.settings }),
  worker: null,
  secrets: host.secretFields,
  hostKeys: host.hostKeys.map(hostKeyViewOf),
  shownKey: shown === null ? null : hostKeyViewOf(shown),
  createdAt: host.createdAt,
})

const textOr = (value: unknown): string | null => (typeof value === 'string' ? value : null)

const optionsOf = (settings: StoredDestination['settings']): DestinationView['options'] =>
  Object.fromEntries(
    Object.entries(settings).filter(([name]) => !(placeNames as readonly string[]).includes(name)),
  ) as DestinationView['options']

export const destinationViewOf = (destination: StoredDestination): DestinationView => ({
  name: destination.name,
  kind: destination.kind,
  uri: destination.uri,
  endpoint: textOr(destination.settings.endpoint),
  region: textOr(destination.settings.region),
  account: textOr(destination.settings.account),
  options: optionsOf(destination.settings),
  secrets: destination.secretFields,
  encryptTo: destination.encryptTo,
  readOnly: destination.readOnly,
  failover: destination.failover,
  offSite: destination.offSite,
  createdAt: destination.createdAt,
})

/** `uris`: of destinations by name. */
export function backupViewOf(backup: BackupRecord, uris: ReadonlyMap<string, string>): BackupView {
  const copies = backup.copies.map(copy => copyViewOf(backup, copy, uris.get(copy.destination)))
  const [first] = copies
  return {
    id: backup.id,
    connection: backup.connection,
    engine: backup.engine,
    method: backup.method,
    type: backup.type,
    format: backup.manifest.toolFormat,
    destination: first?.destination ?? '',
    uri: first?.uri ?? '',
    database: backup.database,
    serverVersion: backup.manifest.server.version,
    consistency: backup.foreign ? 'unknown' : backup.manifest.consistency,
    state: backup.state,
    encrypted: backup.encrypted,
    toolBytes: backup.toolBytes,
    storedBytes: backup.storedBytes,
    artifacts: artifactViewsOf(backup),
    startedAt: backup.startedAt,
    endedAt: backup.endedAt,
    labels: backup.labels,
    foreign: backup.foreign && foreignViewOf(backup.foreign),
    verified: first?.verified ?? null,
    copies,
  }
}

const foreignViewOf = ({ key, wrapping, modifiedAt, tag, sha256 }: ForeignFile) => ({
  file: key,
  wrapping,
  modifiedAt,
  tag,
  sha256,
})

const artifactViewsOf = ({ manifest }: BackupRecord): BackupView['artifacts'] =>
  manifest.artifacts.map(artifact => ({
    name: artifact.name,
    format: artifact.format,
    compression: compressionWords(artifact.compression),
    encrypted: artifact.encryption !== null,
    toolBytes: artifact.toolBytes,
    compressedBytes: artifact.compressedBytes,
    storedBytes: artifact.storedBytes,
    advice: compressionAdvice(artifact) ?? null,
  }))

const copyViewOf = (
  { id, connection, foreign }: BackupRecord,
  { destination, state, committedAt, verified, wantedUntil, trouble, operationId }: CopyRecord,
  destinationUri = destination,
): BackupView['copies'][number] => ({
  destination,
  uri: `${destinationUri.replace(/\/+$/, '')}/${foreign ? foreign.key : `${connection}/backups/${id}`}`,
  state,
  committedAt,
  verified,
  wantedUntil,
  trouble,
  operation: operationId,
})

export const operationViewOf = (
  operation: OperationRecord,
  temporal: Pick<TemporalAccess, 'uiLink'>,
  progress: OperationView['progress'] = null,
): OperationView => ({
  id: operation.id,
  kind: operation.kind,
  state: operation.state,
  connection: operation.connection ?? '',
  engine: operation.engine ?? '',
  backup: operation.backupId ?? '',
  destination: operation.destination ?? '',
  destinations:
    'destinations' in operation.input
      ? operation.input.destinations
      : operation.destination === null
        ? []
        : [operation.destination],
  target: operation.targetDatabase,
  workflowId: operation.workflowId,
  runId: operation.runId,
  phases: operation.phases,
  checks: operation.checks,
  progress,
  error: operation.error,
  dryRun: 'dryRun' in operation.input && operation.input.dryRun,
  pauseWanted: operation.pauseWanted,
  warnings: operation.warnings,
  commands: operation.commands,
  createdAt: operation.createdAt,
  endedAt: operation.endedAt,
  links: {
    self: `/v1/operations/${operation.id}`,
    temporal: temporal.uiLink(operation.workflowId, operation.runId),
  },
})

export const approvalViewOf = (approval: ApprovalRecord, operation: OperationRecord): ApprovalView => ({
  operation: approval.operationId,
  state: approval.state,
  connection: operation.connection ?? '',
  targetName: approval.targetName,
  planDigest: approval.planDigest,
  requestedBy: approval.requestedBy,
  requestedAt: approval.requestedAt,
  reason: approval.reason,
  expiresAt: approval.expiresAt,
  decidedBy: approval.decidedBy,
  decidedAt: approval.decidedAt,
  decisionReason: approval.decisionReason,
  breakGlass: approval.breakGlass,
})

export const keptViewOf = ({ name, state, keepUntil, look, goBack }: KeptRecord) => ({
  name,
  state,
  until: keepUntil,
  look,
  goBack,
})

/** `backup`: the one that it was about, as long as the catalog knows it. */
export function drillSummaryOf(
  drill: DrillRecord,
  operation: OperationRecord,
  backup: BackupRecord | undefined,
): DrillSummary {
  const { id, state, phases, error, createdAt, endedAt } = operation
  return {
    id,
    connection: drill.connection,
    backup: operation.backupId ?? '',
    target: operation.connection ?? '',
    state,
    verdict: verdictOf(state) ?? null,
    error,
    startedAt: createdAt,
    endedAt,
    rtoMs: rtoOf(phases).totalMs,
    rpoMs: backup ? rpoOf(backup, drill, createdAt).ageMs : null,
    tornDownAt: drill.tornDownAt,
  }
}

export const drillViewOf = (...of: Parameters<typeof drillSummaryOf>): DrillView => {
  const drill = drillSummaryOf(...of)
  const self = `/v1/drills/${drill.id}`
  const operation = `/v1/operations/${drill.id}`
  return { ...drill, links: { operation, report: `${self}/report`, page: `${self}/page` } }
}

/** How far the step under way has come, from its last heartbeat; why it is being tried again, if it is. */
export function progressOf(run: Run): OperationView['progress'] {
  for (const { details, attempt, failure } of heartbeatsOf(run)) {
    const progress = progressView.safeParse(details)
    if (!progress.success) continue
    const again = attempt > 1 && failure ? `try ${attempt}: ${failure}`.slice(0, 500) : undefined
    const note = [progress.data.note, again].filter(Boolean).join('; ')
    return { ...progress.data, ...(note === '' ? {} : { note }) }
  }
  return null
}
