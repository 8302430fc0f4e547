/**
 * Schemas of the public API. Used by api/ (validation, OpenAPI) and cli/ (types). Not imported by workflows.
 */
import { z } from 'zod'
import { slugPattern } from './ids.ts'

export const slug = z
  .string()
  .regex(slugPattern, 'use 1 to 63 lower-case letters, digits and dashes; begin with a letter or digit')
const secretValue = z.string().max(4096)
const noControl = (text: string) => !/\p{Cc}/u.test(text)
/** A database name or a file path as the engine has it: anything but control characters. */
const databaseName = z.string().min(1).max(4096).refine(noControl, 'must not hold control characters')

export const connectionInput = z.strictObject({
  name: slug,
  /** `postgres://user@host:port/db?sslmode=…`, `sqlite:/path/file.db`, or a path. A password here is moved to the secrets. */
  url: z.string().min(1).max(4096).refine(noControl, 'must not hold control characters'),
  method: z.enum(['logical', 'physical']).optional(),
  /** Where its tools run: `local`, or a host over SSH that was added. */
  host: slug.optional(),
  /** Secrets by field, e.g. {"password": "…"}. */
  secrets: z.record(z.string().regex(/^[a-zA-Z]{1,32}$/), secretValue).optional(),
  /** Whoever asks for a restore over something here may not approve it. */
  twoPerson: z.boolean().optional(),
})

/** What is absent stays; a secret that is `null` is forgotten. */
export const connectionChange = z.strictObject({
  url: connectionInput.shape.url.optional(),
  method: connectionInput.shape.method,
  secrets: z.record(z.string().regex(/^[a-zA-Z]{1,32}$/), secretValue.nullable()).optional(),
  /** It is another server than the one that was added, and that is meant. */
  acceptNewServer: z.boolean().optional(),
})

const userName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_.-]{0,31}$/, 'is not the name of a user')
const absolutePath = z
  .string()
  .max(1024)
  .regex(/^\/./, 'must be an absolute path')
  .refine(noControl, 'must not hold control characters')

export const hostInput = z.strictObject({
  name: slug.refine(name => name !== 'local', '"local" is the machine of the worker'),
  /** `ssh://user@address[:port]` */
  url: z.string().min(1).max(1024).refine(noControl, 'must not hold control characters'),
  /** Tools run as this user there, by sudo; absent: as who logs in. */
  runAs: userName.optional(),
  /** Staging there; absent: `/var/tmp/holdfast-USER`. */
  tempDir: absolutePath.optional(),
  /** Name of the host to go through. */
  through: slug.optional(),
  /** Also offer the keys of the ssh-agent (SSH_AUTH_SOCK) that API and workers have. */
  agent: z.boolean().optional(),
  /** Public keys of the machine, e.g. of a known_hosts file: agreed to with this. */
  hostKeys: z.array(z.string().max(8192)).max(10).optional(),
  secrets: z
    .strictObject({
      password: secretValue.optional(),
      privateKey: z.string().max(65_536).optional(),
      passphrase: secretValue.optional(),
    })
    .optional(),
})
export const hostTrustInput = z.strictObject({
  /** As `ssh-keygen -l` prints it. Absent: nothing is agreed to, the answer tells which key is shown. */
  fingerprint: z
    .string()
    .regex(/^SHA256:[A-Za-z0-9+/]{43}$/, 'is not a fingerprint: SHA256:…')
    .optional(),
})

export const destinationInput = z.strictObject({
  name: slug,
  /** `file:///dir` or a path; `s3://bucket/prefix`; `gcs://bucket/prefix`; `azure://container/prefix`. */
  uri: z.string().min(1).max(2048).refine(noControl, 'must not hold control characters'),
  endpoint: z.url({ protocol: /^https?$/ }).optional(),
  region: z
    .string()
    .regex(/^[a-z0-9-]{1,40}$/)
    .optional(),
  pathStyle: z.boolean().optional(),
  /** Azure: the storage account; not needed where endpoint or connection string name it. */
  account: z
    .string()
    .regex(/^[a-z0-9]{3,24}$/)
    .optional(),
  /** S3: parts that the store takes for one object, where they are fewer than is known. */
  maxParts: z.int().min(2).max(10_000).optional(),
  /** S3: `none` for stores that refuse checksum headers. */
  checksums: z.enum(['sha256', 'none']).optional(),
  /** S3: of artifacts; one that is readable at once. */
  storageClass: z
    .string()
    .regex(/^[A-Z][A-Z0-9_]{0,39}$/)
    .optional(),
  /** S3: encryption by the store. */
  encryption: z.enum(['AES256', 'aws:kms', 'aws:kms:dsse']).optional(),
  kmsKeyId: z.string().min(1).max(2048).optional(),
  /** S3: of every object. */
  tags: z.record(z.string().min(1).max(128), z.string().max(256)).optional(),
  metadata: z.record(z.string().min(1).max(64), z.string().max(512)).optional(),
  accessKeyId: secretValue.optional(),
  secretAccessKey: secretValue.optional(),
  sessionToken: secretValue.optional(),
  accountKey: secretValue.optional(),
  sasToken: secretValue.optional(),
  connectionString: secretValue.optional(),
  /** GCS: the JSON of a service account's key file. */
  serviceAccountKey: secretValue.optional(),
})

/** What is absent stays, `null` takes away. The place itself (`uri`) does not change. */
export const destinationChange = z.strictObject({
  endpoint: destinationInput.shape.endpoint.nullable(),
  region: destinationInput.shape.region.nullable(),
  pathStyle: destinationInput.shape.pathStyle,
  maxParts: destinationInput.shape.maxParts.nullable(),
  checksums: destinationInput.shape.checksums.nullable(),
  storageClass: destinationInput.shape.storageClass.nullable(),
  encryption: destinationInput.shape.encryption.nullable(),
  kmsKeyId: destinationInput.shape.kmsKeyId.nullable(),
  tags: destinationInput.shape.tags.nullable(),
  metadata: destinationInput.shape.metadata.nullable(),
  accessKeyId: destinationInput.shape.accessKeyId.nullable(),
  secretAccessKey: destinationInput.shape.secretAccessKey.nullable(),
  sessionToken: destinationInput.shape.sessionToken.nullable(),
  accountKey: destinationInput.shape.accountKey.nullable(),
  sasToken: destinationInput.shape.sasToken.nullable(),
  connectionString: destinationInput.shape.connectionString.nullable(),
  serviceAccountKey: destinationInput.shape.serviceAccountKey.nullable(),
})

/** Nobody watches: what needs an operator parks the operation from its first step on, instead of ending it. */
const unattended = z.boolean().optional()
/** Every check and the plan, and then nothing of it is done: no lock is taken, nothing changes on the server or in the store. */
const dryRun = z.boolean().optional()

export const backupInput = z.strictObject({
  connection: slug,
  /** Exactly one so far. */
  destinations: z.array(slug).length(1).optional(),
  type: z.literal('full').optional(),
  /** What the tool writes; see the engine's page. */
  format: z
    .string()
    .regex(/^[a-z-]{1,32}$/)
    .optional(),
  jobs: z.int().min(1).max(64).optional(),
  compressionLevel: z.int().min(1).max(19).optional(),
  /** Names of keys; `[]` for a backup that is not encrypted; absent: every key there is. */
  encryptTo: z.array(slug).max(16).optional(),
  labels: z
    .record(
      z.string().regex(/^[a-zA-Z0-9._-]{1,64}$/),
      z.string().max(256).refine(noControl, 'must not hold control characters'),
    )
    .optional(),
  unattended,
  dryRun,
})

export const restoreInput = z.strictObject({
  /** A backup id, `CONNECTION:latest` or `CONNECTION:previous`. */
  backup: z.string().min(1).max(256).refine(noControl, 'must not hold control characters'),
  target: z.strictObject({ connection: slug, database: databaseName }),
  jobs: z.int().min(1).max(64).optional(),
  noOwner: z.boolean().optional(),
  reason: z.string().max(1000).refine(noControl, 'must not hold control characters').optional(),
  unattended,
  dryRun,
  /** A backup that holds the server is cancelled, and the restore is the next to have it. */
  preempt: z.boolean().optional(),
  /** What is there under the name may be replaced, once an approver has approved the plan. Needs a reason. */
  overwriteExisting: z.boolean().optional(),
  /** Of what is to be replaced, made before anything is. */
  safetyBackup: z.strictObject({ destination: slug }).optional(),
  /** How long the old one is kept after it was replaced: a day unless told otherwise, ninety days at most. */
  keepOldSeconds: z.int().min(0).max(7_776_000).optional(),
})

const decisionReason = z
  .string()
  .min(1)
  .max(1000)
  .refine(noControl, 'must not hold control characters')
  .refine(text => text.trim() !== '', 'say why')

export const approveInput = z.strictObject({
  /** Of the user who approves, typed again. */
  password: secretValue.min(1),
  /** The name of the target, exactly as the plan shows it. */
  targetName: databaseName,
  reason: decisionReason,
  planDigest: z.string().regex(/^[0-9a-f]{64}$/, 'use the digest of the plan'),
  /** Waives the second person, nothing else. Announced. */
  breakGlass: z.boolean().optional(),
})
export const rejectInput = z.strictObject({ reason: decisionReason })
export const connectionPolicyInput = z.strictObject({
  /** Whoever asks for a restore over something here may not approve it. */
  twoPerson: z.boolean(),
})

/** Something of the operator's around backups and restores of a connection. */
export const hook = z
  .strictObject({
    name: slug,
    of: z.enum(['backup', 'restore']),
    at: z.enum(['before', 'after']),
    /** `always`: also after the operation failed or was cancelled. */
    when: z.enum(['success', 'always']).default('success'),
    run: z.union([
      z.strictObject({
        /** A program and its arguments; no shell. Never a secret: see `secretEnv`. */
        argv: z
          .array(
            z
              .string()
              .max(4096)
              .refine(text => !text.includes('\0'), 'must not hold a zero byte'),
          )
          .min(1)
          .max(64)
          .refine(([program]) => program !== '' && !program?.startsWith('-'), 'begins with a program'),
      }),
      z.strictObject({
        sql: z
          .string()
          .min(1)
          .max(65_536)
          .refine(text => !text.includes('\0'), 'must not hold a zero byte'),
      }),
    ]),
    /** Variables of the program whose values are secrets of the connection: `{"PGPASSWORD": "password"}`. */
    secretEnv: z
      .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/), z.string().regex(/^[a-zA-Z]{1,32}$/))
      .default({}),
    timeoutSeconds: z.int().min(1).max(86_400).default(60),
    onFailure: z.enum(['fail', 'warn']).default('fail'),
  })
  .refine(one => one.at === 'after' || one.when === 'success', {
    path: ['when'],
    message: 'only hooks that run after an operation can run always',
  })
  .refine(one => 'argv' in one.run || Object.keys(one.secretEnv).length === 0, {
    path: ['secretEnv'],
    message: "SQL runs with the connection's own credentials",
  })
/** The whole list, in the order in which they run. */
export const hooksInput = z.strictObject({
  items: z
    .array(hook)
    .max(32)
    .refine(all => new Set(all.map(one => one.name)).size === all.length, 'names must differ'),
})

export const verifyInput = z.strictObject({ level: z.enum(['exists', 'checksum']).optional() })

const passphrase = z.string().min(12).max(1024)

export const keyInput = z.strictObject({
  name: slug,
  /** PEM or JWK of a public key (RSA ≥ 2048, EC P-256/P-384): encrypt only. Absent: a new key file is made. */
  publicKey: z.string().max(16384).optional(),
  /** Locks the key file that is made; kept nowhere. Not with `publicKey`. */
  passphrase: passphrase.optional(),
})

export const unlockInput = z.strictObject({
  passphrase,
  /** Until it is locked again; an hour when absent. */
  minutes: z.int().min(1).max(1440).optional(),
})

export type ConnectionInput = z.infer<typeof connectionInput>
export type ConnectionChange = z.infer<typeof connectionChange>
export type DestinationChange = z.infer<typeof destinationChange>
export type DestinationInput = z.infer<typeof destinationInput>
export type BackupRequestInput = z.infer<typeof backupInput>
export type RestoreRequestInput = z.infer<typeof restoreInput>

// Answers

const phaseRecord = z.object({
  phase: z.string(),
  state: z.enum(['running', 'done', 'failed', 'skipped']),
  startedAt: z.string(),
  endedAt: z.string().optional(),
  bytes: z.int().optional(),
  summary: z.string().optional(),
  heldMs: z.number().optional(),
})
const checkResult = z.object({
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
  createdAt: z.string(),
})

const hostKeyView = z.object({ type: z.string(), fingerprint: z.string() })
export const hostView = z.object({
  name: z.string(),
  address: z.string(),
  port: z.int(),
  user: z.string(),
  runAs: z.string().nullable(),
  tempDir: z.string(),
  through: z.string().nullable(),
  agent: z.boolean(),
  secrets: z.array(z.string()),
  /** Agreed to; empty: nothing is sent there yet. */
  hostKeys: z.array(hostKeyView),
  /** What it showed just now, where it was asked. */
  shownKey: hostKeyView.nullable(),
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
  /** How objects are written there: storageClass, encryption, tags … */
  options: z.record(
    z.string(),
    z.union([z.string(), z.number(), z.boolean(), z.record(z.string(), z.string())]),
  ),
  secrets: z.array(z.string()),
  /** Another installation holds the prefix: backups there can be restored, none can be made until takeover. */
  readOnly: z.boolean(),
  createdAt: z.string(),
})

export const progressView = z.object({
  phase: z.string(),
  bytes: z.int(),
  totalBytes: z.int().optional(),
  startedAt: z.string(),
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

export const operationView = z.object({
  id: z.string(),
  kind: z.enum(['backup', 'restore', 'verify']),
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
  connection: z.string(),
  engine: z.string(),
  backup: z.string(),
  destination: z.string(),
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
  createdAt: z.string(),
  endedAt: z.string().nullable(),
  links: z.object({ self: z.string(), temporal: z.string().nullable() }),
})

export const planView = z.object({
  operation: z.string(),
  kind: z.enum(['backup', 'restore']),
  /** SHA-256 over the stored plan. It covers the plan's random token: another run has another one. */
  digest: z.string(),
  /** In words, what of the target is destroyed. */
  destroys: z.array(z.string()),
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

export const backupView = z.object({
  id: z.string(),
  connection: z.string(),
  engine: z.string(),
  method: z.string(),
  type: z.string(),
  format: z.string(),
  destination: z.string(),
  uri: z.string(),
  database: z.string(),
  serverVersion: z.string(),
  consistency: z.string(),
  state: z.enum(['committed', 'deleted']),
  encrypted: z.boolean(),
  toolBytes: z.int(),
  storedBytes: z.int(),
  startedAt: z.string(),
  endedAt: z.string(),
  labels: z.record(z.string(), z.string()),
  verified: z.object({ at: z.string(), level: z.string(), ok: z.boolean(), detail: z.string() }).nullable(),
})

export const keyView = z.object({
  name: z.string(),
  kid: z.string(),
  /** `key-file`: opens backups here; `locked`: with its passphrase; `public`: can only encrypt. */
  kind: z.enum(['key-file', 'locked', 'public']),
  algorithm: z.string(),
  createdAt: z.string(),
  /** Of a locked one that somebody has opened: when it is locked again. */
  openUntil: z.string().nullable(),
})

export const connectionCheckView = z.object({
  serverIdentity: z.string(),
  serverVersion: z.string(),
  database: z.string(),
  sizeBytes: z.int(),
  checks: z.array(checkResult),
})

export const takeoverInput = z.strictObject({ reason: z.string().max(1000).optional() })
export const takeoverView = z.object({
  destination: z.string(),
  epoch: z.int(),
  /** Who can write no more, and whose backups cannot be trusted yet. */
  warnings: z.array(z.string()),
})

/** Absent destination: all of them. */
export const rebuildInput = z.strictObject({ destination: slug.optional() })
export const rebuildView = z.object({
  found: z.int(),
  added: z.int(),
  refused: z.array(
    z.object({ backup: z.string(), destination: z.string(), code: z.string(), detail: z.string() }),
  ),
})

export const sweepInput = z.strictObject({
  dryRun: z.boolean().optional(),
  /** On the API's machine also what is staged by operations that this catalog does not know, as after a lost one. */
  unknown: z.boolean().optional(),
})
export const sweepView = z.object({
  dryRun: z.boolean(),
  /** What was (or would be) removed: `DESTINATION/KEY`, `upload DESTINATION/KEY`, `host OPERATION`, `marker DESTINATION/BACKUP`. */
  removed: z.array(z.string()),
  /** Destinations that could not be swept, and why. */
  skipped: z.array(z.object({ what: z.string(), code: z.string(), detail: z.string() })),
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

export type HostInput = z.infer<typeof hostInput>
export type HostView = z.infer<typeof hostView>
export type ConnectionView = z.infer<typeof connectionView>
export type DestinationView = z.infer<typeof destinationView>
export type OperationView = z.infer<typeof operationView>
export type PlanView = z.infer<typeof planView>
export type BackupView = z.infer<typeof backupView>
export type DatabaseStatus = z.infer<typeof databaseStatusView>
export type StatusView = z.infer<typeof statusView>
export type StatusProblem = z.infer<typeof statusProblem>
export type ApprovalView = z.infer<typeof approvalView>
export type KeyView = z.infer<typeof keyView>
export type Problem = z.infer<typeof problem>
