/**
 * What the public API answers: schemas of its documents. Used by api/ (OpenAPI) and cli/ (reading answers). Not imported by workflows.
 */
import { z } from 'zod'
import { limitedKinds } from './bandwidth.ts'
import { hook } from './inputs.ts'
import { tierList } from './keeping.ts'
import { logStatusView } from './recovery-views.ts'

const phaseRecord = z.object({
  phase: z.string(),
  state: z.enum(['running', 'done', 'failed', 'skipped']),
  startedAt: z.string(),
  endedAt: z.string().optional(),
  bytes: z.int().optional(),
  summary: z.string().optional(),
  heldMs: z.number().optional(),
})
export const checkResult = z.object({
  id: z.string(),
  title: z.string(),
  answer: z.enum(['pass', 'warn', 'fail']),
  detail: z.string(),
  hint: z.string().optional(),
  code: z.string().optional(),
})
const errorFacts = z.object({
  code: z.string(),
  detail: z.string(),
  hint: z.string(),
  context: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional(),
})

export const connectionView = z.object({
  name: z.string(),
  engine: z.string(),
  method: z.string(),
  /** Address without secrets. */
  address: z.string(),
  host: z.string(),
  serverIdentity: z.string(),
  serverVersion: z.string(),
  secrets: z.array(z.string()),
  /** Whoever asks for a restore over something here may not approve it. */
  twoPerson: z.boolean(),
  /** Holdfast writes a row of its own before each backup. */
  canary: z.boolean(),
  createdAt: z.string(),
})

const hostKeyView = z.object({ type: z.string(), fingerprint: z.string() })
export const hostView = z.object({
  name: z.string(),
  kind: z.enum(['ssh', 'worker']),
  /** This and the next five: of one over SSH. */
  address: z.string().nullable(),
  port: z.int().nullable(),
  user: z.string().nullable(),
  runAs: z.string().nullable(),
  tempDir: z.string().nullable(),
  through: z.string().nullable(),
  agent: z.boolean(),
  /** Of one with a worker of its own. */
  worker: z
    .object({
      /** How many ask for its steps; null: Temporal cannot be asked. */
      polling: z.int().nullable(),
      /** Of its token; null: it has none. */
      token: z.object({ createdAt: z.string(), lastUsedAt: z.string().nullable() }).nullable(),
    })
    .nullable(),
  secrets: z.array(z.string()),
  /** Agreed to; empty: nothing is sent there yet. */
  hostKeys: z.array(hostKeyView),
  /** What it showed just now, where it was asked. */
  shownKey: hostKeyView.nullable(),
  createdAt: z.string(),
})
export const hostTokenView = z.object({
  host: z.string(),
  /** Shown this once. */
  token: z.string(),
  createdAt: z.string(),
})
export const hostCheckView = z.object({ name: z.string(), checks: z.array(checkResult) })

export const destinationView = z.object({
  name: z.string(),
  kind: z.string(),
  uri: z.string(),
  endpoint: z.string().nullable(),
  region: z.string().nullable(),
  account: z.string().nullable(),
  /** How objects are written there: storageClass, encryption, tags, tiers … */
  options: z.record(
    z.string(),
    z.union([
      z.string(),
      z.number(),
      z.boolean(),
      z.record(z.string(), z.union([z.string(), z.number()])),
      tierList,
    ]),
  ),
  secrets: z.array(z.string()),
  /** Keys that backups there are encrypted for by default; null: every key in use. */
  encryptTo: z.array(z.string()).nullable(),
  /** Another installation holds the prefix: backups there can be restored, none can be made until takeover. */
  readOnly: z.boolean(),
  /** Name of the one that takes its place while it is away; the backup is copied home afterwards. */
  failover: z.string().nullable(),
  /** It lies elsewhere than the databases; null: nobody has said. */
  offSite: z.boolean().nullable(),
  createdAt: z.string(),
})

/** The answer of a check that found nothing wrong. */
export const destinationCheckView = destinationView.extend({
  ok: z.literal(true),
  /** Worth knowing of the place: a bucket that locks by itself, a class that is read slowly. */
  notes: z.array(z.string()),
})

export const progressView = z.object({
  phase: z.string(),
  bytes: z.int(),
  totalBytes: z.int().optional(),
  startedAt: z.string(),
  /** Bytes per second that it may use now; absent or null: no limit. */
  limitBytesPerSecond: z.int().nullable().optional(),
  note: z.string().optional(),
})

export const approvalView = z.object({
  operation: z.string(),
  state: z.enum(['planning', 'waiting', 'approved', 'used', 'rejected', 'expired', 'withdrawn']),
  connection: z.string(),
  targetName: z.string().nullable(),
  planDigest: z.string().nullable(),
  requestedBy: z.string(),
  requestedAt: z.string(),
  reason: z.string().nullable(),
  expiresAt: z.string(),
  decidedBy: z.string().nullable(),
  decidedAt: z.string().nullable(),
  decisionReason: z.string().nullable(),
  breakGlass: z.boolean(),
})

/** The old database that a swap keeps. */
export const keptView = z.object({
  name: z.string(),
  state: z.enum(['kept', 'dropped', 'gone']),
  until: z.string(),
  /** Commands for people: to look into it, to go back to it. */
  look: z.string(),
  goBack: z.string(),
})

/** What a sweep found so far. */
const sweptView = z.object({
  /** What was (in a dry run: would be) removed: `DESTINATION/KEY`, `upload DESTINATION/KEY`, `host OPERATION`, `marker DESTINATION/BACKUP`. */
  removed: z.array(z.string()),
  /** What is left, and why. */
  skipped: z.array(z.object({ what: z.string(), code: z.string(), detail: z.string() })),
})

export const operationView = z.object({
  id: z.string(),
  kind: z.enum([
    'backup',
    'restore',
    'pitr',
    'verify',
    'rotateKeys',
    'copy',
    'scrub',
    'sweep',
    'tiering',
    'drill',
    'enablePitr',
  ]),
  state: z.enum([
    'queued',
    'running',
    'parked',
    'awaiting-approval',
    'paused',
    'cancelling',
    'succeeded',
    'partial',
    'failed',
    'cancelled',
  ]),
  /** Empty, as the next three may be, where it is about the whole installation. */
  connection: z.string(),
  engine: z.string(),
  backup: z.string(),
  destination: z.string(),
  /** Of a backup: all that were asked for. */
  destinations: z.array(z.string()),
  target: z.string().nullable(),
  workflowId: z.string(),
  runId: z.string().nullable(),
  phases: z.array(phaseRecord),
  checks: z.array(checkResult),
  /** Of the running phase; from the activity's heartbeat. */
  progress: progressView.nullable(),
  /** Why it ended; while it is parked, what has to be mended, with `parkedAt`, `parkedUntil` and `retryAt` in its context. */
  error: errorFacts.nullable(),
  /** Only checked and planned, nothing done. */
  dryRun: z.boolean(),
  /** Somebody asked for a pause; it takes effect at the next boundary. */
  pauseWanted: z.boolean(),
  warnings: z.array(z.string()),
  commands: z.array(z.string()),
  /** Of one operation that is shown: who has to say yes, and what is kept of what it replaced. */
  approval: approvalView.nullable().optional(),
  kept: keptView.nullable().optional(),
  swept: sweptView.nullable().optional(),
  createdAt: z.string(),
  endedAt: z.string().nullable(),
  links: z.object({ self: z.string(), temporal: z.string().nullable() }),
})

export const planView = z.object({
  operation: z.string(),
  kind: z.enum(['backup', 'restore', 'enablePitr']),
  /** SHA-256 over the stored plan. It covers the plan's random token: another run has another one. */
  digest: z.string(),
  /** In words, what of the target is destroyed. */
  destroys: z.array(z.string()),
  /** The backup is foreign: nobody signed it, in words; null: its manifest is signed. */
  unsigned: z.string().nullable(),
  /** A backup that holds the server then is ended for it. */
  preempts: z.boolean(),
  steps: z.array(
    z.object({
      id: z.string(),
      title: z.string(),
      /** As it runs, without secrets. */
      command: z.string(),
      /** What the command gets on its standard input, e.g. SQL. */
      input: z.string().nullable(),
    }),
  ),
  /** Run around them on the host. */
  hooks: z.array(
    z.object({
      name: z.string(),
      at: z.enum(['before', 'after']),
      when: z.enum(['success', 'always']),
      onFailure: z.enum(['fail', 'warn']),
      timeoutSeconds: z.int(),
      command: z.string(),
      input: z.string().nullable(),
    }),
  ),
  /** Of the database that is backed up, or of the tool's bytes that are restored. */
  sizeBytes: z.int(),
  /** Null before the first backup of the connection. */
  expected: z
    .object({
      storedBytes: z.int(),
      seconds: z.int().nullable(),
      /** What went like that. */
      from: z.string(),
    })
    .nullable(),
})

export const hooksView = z.object({ items: z.array(hook) })
export const logEntryView = z.object({
  seq: z.int(),
  at: z.string(),
  /** Who printed it, e.g. `hook stop-writers`. */
  source: z.string(),
  text: z.string(),
})

const verified = z.object({
  at: z.string(),
  level: z.string(),
  ok: z.boolean(),
  detail: z.string(),
  /** When each level last found it whole. */
  proven: z.record(z.string(), z.string()).optional(),
})
export const backupView = z.object({
  id: z.string(),
  connection: z.string(),
  engine: z.string(),
  method: z.string(),
  type: z.string(),
  format: z.string(),
  /** Of the copy to use first; see `copies`. */
  destination: z.string(),
  uri: z.string(),
  database: z.string(),
  serverVersion: z.string(),
  consistency: z.string(),
  state: z.enum(['committed', 'deleted']),
  encrypted: z.boolean(),
  toolBytes: z.int(),
  storedBytes: z.int(),
  /** What each stage did to the size of each artifact. */
  artifacts: z.array(
    z.object({
      name: z.string(),
      format: z.string(),
      /** `zstd, level 3`. */
      compression: z.string(),
      encrypted: z.boolean(),
      /** From the tool; after compression; after encryption, as it lies in the destination. */
      toolBytes: z.int(),
      compressedBytes: z.int(),
      storedBytes: z.int(),
      /** What somebody should know who chose the compression. */
      advice: z.string().nullable(),
    }),
  ),
  startedAt: z.string(),
  endedAt: z.string(),
  labels: z.record(z.string(), z.string()),
  /** Not made by a Holdfast, and signed by nobody; null: a backup of ours. */
  foreign: z
    .object({
      file: z.string(),
      wrapping: z.string().nullable(),
      modifiedAt: z.string(),
      tag: z.string().nullable(),
      /** null: nobody has read it to its end yet; a restore needs that. */
      sha256: z.string().nullable(),
    })
    .nullable(),
  verified: verified.nullable(),
  /** The one to use first comes first: `destination`, `uri` and `verified` are of that one. */
  copies: z.array(
    z.object({
      destination: z.string(),
      uri: z.string(),
      /** `missing`: it is to be there and is not yet. */
      state: z.enum(['committed', 'missing', 'deleted']),
      committedAt: z.string().nullable(),
      verified: verified.nullable(),
      /** Of a missing one: it is copied there by itself until then; null: somebody has to. */
      wantedUntil: z.string().nullable(),
      /** Of a missing one: why. */
      trouble: z.string().nullable(),
      /** Of the last copying that nobody asked for. */
      operation: z.string().nullable(),
    }),
  ),
})

/** What the store of one copy says of it just now. */
const storedView = z.object({
  destination: z.string(),
  /** No part of it can be removed before; null: it is not locked as a whole. */
  lockedUntil: z.string().nullable(),
  /** No part of it can be removed until somebody lifts the hold. */
  legalHold: z.boolean(),
  /** Of its artifacts. */
  storageClass: z.string().nullable(),
  /** A restore has to bring something back first, which takes hours. */
  archived: z.boolean(),
})

/** One backup that is shown. `stored`: of each copy in an object store that answers. */
export const backupShownView = backupView.extend({ stored: z.array(storedView) })
/** One of a list. `stored`: where it was asked for. */
export const backupListedView = backupView.extend({ stored: z.array(storedView).optional() })

export const tieringView = z.object({
  destination: z.string(),
  /** Empty: it has none. */
  tiers: z.array(tierList.element),
  /** As far as the catalog knows: the store is not asked. */
  moves: z.array(z.object({ backup: z.string(), connection: z.string(), bytes: z.int(), to: z.string() })),
})

export const bandwidthView = z.object({
  kind: z.enum([...limitedKinds, 'operation']),
  name: z.string(),
  limit: z.string(),
  /** What it allows now; null: no limit. */
  bytesPerSecond: z.int().nullable(),
  /** How many transfers share it now. */
  transfers: z.int(),
})

export const keyView = z.object({
  name: z.string(),
  kid: z.string(),
  /** `key-file`: opens backups here; `locked`: with its passphrase; `aws-kms`, `gcp-kms`, `azure-key-vault`: through that service; `public`: can only encrypt. */
  kind: z.enum(['key-file', 'locked', 'aws-kms', 'gcp-kms', 'azure-key-vault', 'public']),
  algorithm: z.string(),
  createdAt: z.string(),
  /** Of a locked one that somebody has opened: when it is locked again. */
  openUntil: z.string().nullable(),
  /** The key that took its place: new backups are encrypted for that one. */
  replacedBy: z.string().nullable(),
  /** Committed backups that it opens, and of them those that no other key here does. */
  opens: z.array(z.object({ destination: z.string(), backups: z.int(), alone: z.int() })),
})

/** What the server says of itself is null where it could not be asked; `checks` tell why. */
export const connectionCheckView = z.object({
  serverIdentity: z.string().nullable(),
  serverVersion: z.string().nullable(),
  database: z.string().nullable(),
  sizeBytes: z.int().nullable(),
  checks: z.array(checkResult),
})

export const takeoverView = z.object({
  destination: z.string(),
  epoch: z.int(),
  /** Who can write no more, and whose backups cannot be trusted yet. */
  warnings: z.array(z.string()),
})

export const rebuildView = z.object({
  found: z.int(),
  added: z.int(),
  refused: z.array(
    z.object({ backup: z.string(), destination: z.string(), code: z.string(), detail: z.string() }),
  ),
})

export const syncView = z.object({
  /** Where they lie. */
  destination: z.string(),
  /** Foreign backups that are there. */
  found: z.int(),
  /** Of these: not known before, or another file than before; and there again after they were gone. */
  added: z.int(),
  back: z.int(),
  /** Known, and not there any more as they were. */
  gone: z.int(),
  /** Files that do not look like a dump or an archive. */
  skipped: z.int(),
  /** Not all could be looked at in this request: ask again with this as `after`. null: that was all. */
  next: z.string().nullable(),
  refused: z.array(z.object({ file: z.string(), code: z.string(), detail: z.string() })),
})

/** How much somebody is needed. The CLI ends with 0, 1, 2. */
const level = z.enum(['healthy', 'warning', 'critical'])

const statusProblem = z.object({
  level: z.enum(['note', 'warning', 'critical']),
  /** Stable; of the table of errors where it is one. */
  code: z.string(),
  detail: z.string(),
  /** What to do, in words. */
  hint: z.string(),
  /** The command that does it, for copying. */
  command: z.string().nullable(),
})

const openOperationView = z.object({
  id: z.string(),
  kind: z.string(),
  state: operationView.shape.state,
  since: z.string(),
  phase: z.string().nullable(),
  error: errorFacts.nullable(),
  /** What takes it on: watching, resuming, approving. */
  command: z.string(),
})

const drillSummary = z.object({
  /** The id of its operation. */
  id: z.string(),
  /** Connection whose backup it was. */
  connection: z.string(),
  backup: z.string(),
  /** Connection on whose server or machine the copy was made. */
  target: z.string(),
  /** Of its operation. */
  state: z.string(),
  /** null: it has not ended. */
  verdict: z.enum(['passed', 'failed', 'cancelled']).nullable(),
  error: errorFacts.nullable(),
  startedAt: z.string(),
  endedAt: z.string().nullable(),
  /** From the question until the copy was proven; null: it was not. */
  rtoMs: z.int().nullable(),
  /** How old what it brought back was when it began. */
  rpoMs: z.int().nullable(),
  /** When what it had made was removed; null: not yet. */
  tornDownAt: z.string().nullable(),
})
export const drillView = drillSummary.extend({
  links: z.object({ operation: z.string(), report: z.string(), page: z.string() }),
})
/** Drills that were ended from outside, and whose copies are removed now. */
export const drillCleanupView = z.object({ items: z.array(z.string()) })

export const databaseStatusView = z.object({
  connection: z.string(),
  engine: z.string(),
  /** Without secrets; null when the catalog has backups of it but no connection. */
  address: z.string().nullable(),
  level,
  /** The newest backup that can be restored as far as we know; what is newer and cannot be is among the problems. */
  latestBackup: z
    .object({
      id: z.string(),
      database: z.string(),
      destination: z.string(),
      /** The moment a restore of it brings back. */
      startedAt: z.string(),
      ageSeconds: z.int(),
      toolBytes: z.int(),
      storedBytes: z.int(),
      /** The last verification that passed. */
      verified: z.object({ level: z.string(), at: z.string() }).nullable(),
      encrypted: z.boolean(),
      /** A key that opens it is in the keys directory; null when that could not be found out. */
      keyAtHand: z.boolean().nullable(),
      /** Its manifest was there just now; null when the destination did not answer. */
      seen: z.boolean().nullable(),
    })
    .nullable(),
  ageSeconds: z.int().nullable(),
  restore: z
    .object({
      /** What a restore is expected to take; null when nothing was measured. */
      seconds: z.number().nullable(),
      basis: z.enum(['restores-of-this', 'restores-of-engine', 'backup', 'unknown']),
      detail: z.string(),
      /** Restores it beside, under a new name. */
      command: z.string(),
    })
    .nullable(),
  /** Of the newest backup that can be restored, by the rule of three copies, on two media, one off-site and one immutable. */
  copies: z
    .object({
      /** Whole ones; the database itself is the first. */
      count: z.int(),
      media: z.array(z.enum(['disk', 'object store'])),
      /** Destinations whose copies are. */
      offSite: z.array(z.string()),
      immutable: z.array(z.string()),
      /** Destinations that it is copied to by itself. */
      arriving: z.array(z.string()),
      /** What the rule wants beside that; empty: nothing. */
      missing: z.array(
        z.object({
          rule: z.enum(['copies', 'media', 'off-site', 'immutable']),
          detail: z.string(),
          hint: z.string(),
          command: z.string(),
        }),
      ),
      /** The latest backups fell short since then, as far as the last ones tell; null: nothing is missing. */
      since: z.string().nullable(),
    })
    .nullable(),
  /** The archive of its log that reaches furthest; null: there is none, or nobody could say. */
  log: logStatusView.nullable(),
  /** The last one of a backup of it that has ended; null: nobody has tried whether it can be restored. */
  drill: drillSummary.nullable(),
  operations: z.array(openOperationView),
  /** Of backups. */
  schedules: z.array(
    z.object({
      name: z.string(),
      words: z.string(),
      paused: z.boolean(),
      next: z.string().nullable(),
      lastMissed: z.object({ dueAt: z.string(), reason: z.string() }).nullable(),
    }),
  ),
  problems: z.array(statusProblem),
})

export const statusView = z.object({
  version: z.string(),
  installationId: z.string(),
  instanceId: z.string(),
  /** Of the key that signs manifests: `recover --fingerprint` trusts by it. */
  fingerprint: z.string(),
  /** The API's clock. */
  at: z.string(),
  level,
  temporal: z.object({
    reachable: z.boolean(),
    namespace: z.string(),
    uiUrl: z.string().nullable(),
    /** Workers that asked Temporal for work lately; null when Temporal does not answer. */
    workers: z.int().nullable(),
  }),
  operations: z.object({ open: z.int() }),
  /** Worst first. */
  databases: z.array(databaseStatusView),
  destinations: z.array(
    z.object({
      name: z.string(),
      uri: z.string(),
      readOnly: z.boolean(),
      reachable: z.boolean(),
      problems: z.array(statusProblem),
    }),
  ),
  /** Of the whole: Temporal, workers. */
  problems: z.array(statusProblem),
})

export const problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  code: z.string(),
  detail: z.string(),
  hint: z.string(),
  errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  /** The operation that holds the lock, with `operation.conflict`. */
  holder: z.object({ operation: z.string(), kind: z.string(), startedAt: z.string() }).optional(),
})

export const page = <Item extends z.ZodType>(item: Item) =>
  z.object({ items: z.array(item), nextCursor: z.string().nullable() })
export const accepted = z.object({ operation: operationView })

export type DrillSummary = z.infer<typeof drillSummary>
export type DrillView = z.infer<typeof drillView>
export type HostView = z.infer<typeof hostView>
export type HostTokenView = z.infer<typeof hostTokenView>
export type ConnectionView = z.infer<typeof connectionView>
export type DestinationView = z.infer<typeof destinationView>
export type ConnectionCheckView = z.infer<typeof connectionCheckView>
export type OperationView = z.infer<typeof operationView>
export type PlanView = z.infer<typeof planView>
export type BackupView = z.infer<typeof backupView>
export type BackupShown = z.infer<typeof backupShownView>
export type BackupListed = z.infer<typeof backupListedView>
export type DatabaseStatus = z.infer<typeof databaseStatusView>
export type StatusView = z.infer<typeof statusView>
export type StatusProblem = z.infer<typeof statusProblem>
export type ApprovalView = z.infer<typeof approvalView>
export type SyncView = z.infer<typeof syncView>
export type KeyView = z.infer<typeof keyView>
export type Problem = z.infer<typeof problem>
