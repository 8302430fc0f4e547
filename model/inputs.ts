/**
 * What the public API is asked: schemas of its requests. Used by api/ (validation, OpenAPI) and cli/ (types). Not imported by workflows.
 */
import { z } from 'zod'
import { parseLimit } from './bandwidth.ts'
import { compressionLevels, compressionMethods, longWindows } from './compression.ts'
import { backupIdPattern, slugPattern } from './ids.ts'
import { objectLock, tierList } from './keeping.ts'
import { instantOf } from './recovery-time.ts'
import { parseReference, storedReference } from './secret-references.ts'
import { allowances, backupTypes, verifyLevels } from './types.ts'
import { parseLsn } from './wal.ts'

export const slug = z
  .string()
  .regex(slugPattern, 'use 1 to 63 lower-case letters, digits and dashes; begin with a letter or digit')
/** In the place of a secret: where to look it up when it is needed. */
const secretReference = z
  .strictObject({
    /** `env:NAME`, `file:/path`, `vault:MOUNT/PATH#FIELD`; of the API's and each worker's own environment. */
    ref: z
      .string()
      .max(1200)
      .refine(
        text => parseReference(text) !== undefined,
        'must be env:NAME, file:/path or vault:MOUNT/PATH#FIELD',
      ),
  })
  .transform(({ ref }) => storedReference(ref))
const secretValue = z.union([z.string().max(4096), secretReference])
const noControl = (text: string) => !/\p{Cc}/u.test(text)
/** A database name or a file path as the engine has it: anything but control characters. */
const databaseName = z.string().min(1).max(4096).refine(noControl, 'must not hold control characters')

export const connectionInput = z.strictObject({
  name: slug,
  /** `postgres://user@host:port/db?sslmode=…`, `sqlite:/path/file.db`, or a path. A password here is moved to the secrets. */
  url: z.string().min(1).max(4096).refine(noControl, 'must not hold control characters'),
  method: z.enum(['logical', 'physical']).optional(),
  /** Where its tools run: `local`, or a host that was added. */
  host: slug.optional(),
  /** Secrets by field, e.g. {"password": "…"}. */
  secrets: z.record(z.string().regex(/^[a-zA-Z]{1,32}$/), secretValue).optional(),
  /** Whoever asks for a restore over something here may not approve it. */
  twoPerson: z.boolean().optional(),
  /** Holdfast may write a row of its own before each backup, for drills to find. */
  canary: z.boolean().optional(),
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
  /** `ssh://user@address[:port]`, or `worker:` where a worker of its own lives there. */
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
      privateKey: z.union([z.string().max(65_536), secretReference]).optional(),
      passphrase: secretValue.optional(),
    })
    .optional(),
})
/** What is absent stays, `null` takes away. Of machines over SSH only. */
export const hostChange = z.strictObject({
  url: hostInput.shape.url.optional(),
  runAs: userName.nullable().optional(),
  tempDir: absolutePath.optional(),
  through: slug.nullable().optional(),
  agent: z.boolean().optional(),
  /** These take the place of those that were agreed to. */
  hostKeys: hostInput.shape.hostKeys,
  secrets: z
    .strictObject({
      password: secretValue.nullable().optional(),
      privateKey: z
        .union([z.string().max(65_536), secretReference])
        .nullable()
        .optional(),
      passphrase: secretValue.nullable().optional(),
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
  /** Of artifacts: a class of S3 or GCS, a tier of Azure. What is in an archive is brought back by a restore, which takes hours. */
  storageClass: z
    .string()
    .regex(/^[A-Za-z][A-Za-z0-9_]{0,39}$/)
    .optional(),
  /** S3: encryption by the store. */
  encryption: z.enum(['AES256', 'aws:kms', 'aws:kms:dsse']).optional(),
  /** S3, GCS: of a key of the store's KMS. */
  kmsKeyId: z.string().min(1).max(2048).optional(),
  /** Azure: the account's scope that objects are encrypted under, with its own key. */
  encryptionScope: z.string().min(3).max(63).optional(),
  /** S3, Azure: of every object. `metadata`: also GCS. */
  tags: z.record(z.string().min(1).max(128), z.string().max(256)).optional(),
  metadata: z.record(z.string().min(1).max(64), z.string().max(512)).optional(),
  /** Nothing of a backup can be removed before so many days; the store must have been made for it. */
  objectLock: objectLock.optional(),
  /** What is written is put under a legal hold, which ends only when somebody lifts it at the store. */
  legalHold: z.boolean().optional(),
  /** Artifacts move to these classes, from so many days after they were committed there on. */
  tiers: tierList.optional(),
  /** Names of keys that backups there are encrypted for, where a request or schedule does not say otherwise. */
  encryptTo: z.array(slug).min(1).max(16).nullable().optional(),
  /** Destination that takes its place while it is away; the backup is copied home afterwards. */
  failover: slug.nullable().optional(),
  /** It lies elsewhere than the databases. */
  offSite: z.boolean().nullable().optional(),
  accessKeyId: secretValue.optional(),
  secretAccessKey: secretValue.optional(),
  sessionToken: secretValue.optional(),
  accountKey: secretValue.optional(),
  sasToken: secretValue.optional(),
  connectionString: secretValue.optional(),
  /** Azure: an application that Microsoft Entra ID knows, with the value of a secret or a certificate and its key in PEM. */
  tenantId: secretValue.optional(),
  clientId: secretValue.optional(),
  clientSecret: secretValue.optional(),
  clientCertificate: z.union([z.string().max(16_384), secretReference]).optional(),
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
  encryptionScope: destinationInput.shape.encryptionScope.nullable(),
  tags: destinationInput.shape.tags.nullable(),
  metadata: destinationInput.shape.metadata.nullable(),
  objectLock: destinationInput.shape.objectLock.nullable(),
  legalHold: destinationInput.shape.legalHold.nullable(),
  tiers: destinationInput.shape.tiers.nullable(),
  encryptTo: destinationInput.shape.encryptTo,
  failover: destinationInput.shape.failover,
  offSite: destinationInput.shape.offSite,
  accessKeyId: destinationInput.shape.accessKeyId.nullable(),
  secretAccessKey: destinationInput.shape.secretAccessKey.nullable(),
  sessionToken: destinationInput.shape.sessionToken.nullable(),
  accountKey: destinationInput.shape.accountKey.nullable(),
  sasToken: destinationInput.shape.sasToken.nullable(),
  connectionString: destinationInput.shape.connectionString.nullable(),
  tenantId: destinationInput.shape.tenantId.nullable(),
  clientId: destinationInput.shape.clientId.nullable(),
  clientSecret: destinationInput.shape.clientSecret.nullable(),
  clientCertificate: destinationInput.shape.clientCertificate.nullable(),
  serviceAccountKey: destinationInput.shape.serviceAccountKey.nullable(),
})

/** Nobody watches: what needs an operator parks the operation from its first step on, instead of ending it. */
const unattended = z.boolean().optional()
/** Every check and the plan, and then nothing of it is done: no lock is taken, nothing changes on the server or in the store. */
const dryRun = z.boolean().optional()

/** As people write it; see model/bandwidth.ts. */
const bandwidthLimit = z
  .string()
  .min(1)
  .max(500)
  .superRefine((text, issues) => {
    try {
      parseLimit(text)
    } catch (error) {
      issues.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) })
    }
  })
/** null: no limit any more. */
export const bandwidthInput = z.strictObject({ limit: bandwidthLimit.nullable() })

/** Of an operation while it is open. null: no limit of its own any more. */
export const operationChange = z.strictObject({ bandwidth: bandwidthLimit.nullable() })

const compressionInput = z
  .strictObject({
    method: z.enum(compressionMethods).optional(),
    /** zstd and auto: 1 to 19; gzip: 1 to 9. */
    level: z.int().min(1).max(19).optional(),
    /** zstd: looks back by 2^longWindow bytes, and takes that much memory. */
    longWindow: z.int().min(longWindows.least).max(longWindows.most).optional(),
    threads: z.int().min(1).max(64).optional(),
  })
  .superRefine(({ method = 'zstd', level, longWindow }, issues) => {
    const say = (path: string, message: string) => issues.addIssue({ code: 'custom', path: [path], message })
    const levels = compressionLevels[method]
    if (level !== undefined && levels === null) say('level', `${method} has no levels`)
    else if (level !== undefined && level > (levels?.most ?? 0)) {
      say('level', `${method} has levels 1 to ${levels?.most}`)
    }
    if (longWindow !== undefined && method !== 'zstd') say('longWindow', 'only zstd has a long mode')
  })

export const destinationNames = z
  .array(slug)
  .min(1)
  .max(8)
  .refine(names => new Set(names).size === names.length, 'names must differ')

export const backupInput = z.strictObject({
  connection: slug,
  /** All of them in one pass; absent: the only one there is. */
  destinations: destinationNames.optional(),
  /** What takes the place of any that is away before the first byte; null: nothing; absent: as each of them says. */
  failover: slug.nullable().optional(),
  type: z.enum(backupTypes).optional(),
  /** What the tool writes; see the engine's page. */
  format: z
    .string()
    .regex(/^[a-z-]{1,32}$/)
    .optional(),
  jobs: z.int().min(1).max(64).optional(),
  compression: compressionInput.optional(),
  /** Of this operation alone: `20MB/s`, `08:00-18:00 Europe/Berlin 10MB/s, otherwise none`. */
  bandwidth: bandwidthLimit.optional(),
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

/** What a backup would be asked for; absent destinations: the only one there is, if there is one alone. */
export const precheckInput = backupInput.pick({ destinations: true, format: true, encryptTo: true })

/** With overwriteExisting, of data directories: what would be refused otherwise. */
const allow = z.array(z.enum(allowances)).max(allowances.length).optional()

export const restoreInput = z.strictObject({
  /** A backup id, `CONNECTION:latest` or `CONNECTION:previous`. */
  backup: z.string().min(1).max(256).refine(noControl, 'must not hold control characters'),
  /** Destination of the copy to read; absent: the first that answers and is whole. */
  from: slug.optional(),
  target: z.strictObject({ connection: slug, database: databaseName }),
  jobs: z.int().min(1).max(64).optional(),
  noOwner: z.boolean().optional(),
  reason: z.string().max(1000).refine(noControl, 'must not hold control characters').optional(),
  unattended,
  dryRun,
  /** A backup that holds the server is cancelled, and the restore is the next to have it. */
  preempt: z.boolean().optional(),
  bandwidth: bandwidthLimit.optional(),
  /** What is there under the name may be replaced, once an approver has approved the plan. Needs a reason. */
  overwriteExisting: z.boolean().optional(),
  /** Of what is to be replaced, made before anything is. */
  safetyBackup: z.strictObject({ destination: slug }).optional(),
  /** How long the old one is kept after it was replaced: a day unless told otherwise, ninety days at most. */
  keepOldSeconds: z.int().min(0).max(7_776_000).optional(),
  allow,
})

/** What a drill asks of the copy besides its proofs. Runs there with the rights of the connection. */
const drillQuery = z.strictObject({
  name: z.string().min(1).max(100).refine(noControl, 'must not hold control characters'),
  sql: z.string().min(1).max(20_000),
  /** Rows by lines, columns by `|`; white space at the end does not count. */
  expect: z.string().max(20_000),
})

export const drillOptions = z.strictObject({
  /** Where the copy is made; absent: the connection that was backed up. */
  target: slug.optional(),
  /** Where a file or a data directory is made; absent: beside the one that was backed up. Not of a logical backup of a server. */
  directory: absolutePath.optional(),
  /** No counting of rows, no look into structures: what the restore itself proves. */
  quick: z.boolean().optional(),
  queries: z.array(drillQuery).max(50).optional(),
  jobs: z.int().min(1).max(64).optional(),
  noOwner: z.boolean().optional(),
  bandwidth: bandwidthLimit.optional(),
  maxSeconds: z
    .int()
    .min(1)
    .max(7 * 86_400)
    .optional(),
  /** Of what it restores, unpacked. */
  maxBytes: z.int().min(1).optional(),
  /** Started in containers of this image, by its programs; it has to be on that host. Takes the role admin. */
  container: z
    .strictObject({
      engine: z.enum(['docker', 'podman']),
      image: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}$/, 'must be the name of an image'),
    })
    .optional(),
})
/** ISO 8601 with the offset of its zone: what a wall clock shows is told twice a year. */
const moment = z
  .string()
  .regex(
    /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?(Z|[+-]\d{2}(:?\d{2})?)$/,
    'must be a date and a time with its zone, as in 2026-11-22T03:14:00Z or 2026-11-22 04:14:00+01:00',
  )
  .refine(text => instantOf(text) !== undefined, 'is no such moment')
const inclusive = z.boolean().optional()

const recoveryTarget = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('time'), time: moment, inclusive }),
  z.strictObject({
    kind: z.literal('lsn'),
    lsn: z.string().refine(text => parseLsn(text) !== undefined, 'is no LSN, as in 16/B374D848'),
    inclusive,
  }),
  z.strictObject({
    kind: z.literal('xid'),
    xid: z.string().regex(/^[1-9]\d{0,18}$/, 'is no transaction id'),
    inclusive,
  }),
  z.strictObject({
    kind: z.literal('name'),
    name: z
      .string()
      .min(1)
      .refine(text => new TextEncoder().encode(text).length < 64, 'must have less than 64 bytes')
      .refine(noControl, 'must not hold control characters'),
  }),
  z.strictObject({ kind: z.literal('immediate') }),
  z.strictObject({ kind: z.literal('latest') }),
])

export const pitrInput = z.strictObject({
  /** Of the server whose log and base backups are meant. */
  connection: slug,
  to: recoveryTarget,
  /** `latest`: the newest that the archive has; `current`: that of the base backup; or its number. Absent: that of a restore point, else `latest`. */
  timeline: z.union([z.enum(['latest', 'current']), z.int().min(1).max(0xffffffff)]).optional(),
  /** What the copy is to do at the target: `promote` unless told otherwise. */
  action: z.enum(['promote', 'pause', 'shutdown']).optional(),
  /** Base backup to begin with; absent: the newest that ended before the target. */
  base: z.string().regex(backupIdPattern, 'is no id of a backup').optional(),
  /** A connection whose host gets the new data directory; absent: the same one. */
  target: z.strictObject({ connection: slug.optional(), directory: absolutePath }),
  /** The new server's; absent: as its configuration says. */
  port: z.int().min(1).max(65_535).optional(),
  /** It is left running there, still without archiving; needs `port`. */
  start: z.boolean().optional(),
  /** One database of it, restored through a logical connection; the copy is made in the directory and removed. */
  only: z
    .strictObject({
      database: z.string().min(1).max(63).refine(noControl, 'must not hold control characters'),
      into: z.strictObject({ connection: slug, database: z.string().min(1).max(63) }),
      /** Where its dump is kept; absent: with the base backup. */
      destination: slug.optional(),
      overwriteExisting: z.boolean().optional(),
      keepOldSeconds: z.int().min(0).max(7_776_000).optional(),
    })
    .optional(),
  /** On that host, readable by PostgreSQL's user, with `openWith`. */
  walConfig: absolutePath.optional(),
  reason: z.string().max(1000).refine(noControl, 'must not hold control characters').optional(),
  unattended,
  dryRun,
  bandwidth: bandwidthLimit.optional(),
  /** The copy takes the place of the data directory that is there; waits for an approval. */
  overwriteExisting: z.boolean().optional(),
  /** With overwriteExisting: what is replaced is backed up first. */
  safetyBackup: z.strictObject({ destination: slug }).optional(),
  keepOldSeconds: z.int().min(0).max(7_776_000).optional(),
  allow,
})

export const drillInput = drillOptions
  .extend({
    backup: restoreInput.shape.backup.optional(),
    from: slug.optional(),
    /** Instead of a backup: a moment of this server, from its base backup and its log. */
    moment: pitrInput
      .pick({ connection: true, to: true, timeline: true, base: true, walConfig: true })
      .optional(),
  })
  .refine(({ backup, moment }) => (backup === undefined) !== (moment === undefined), {
    path: ['backup'],
    message: 'say a backup, or a moment',
  })
  .refine(({ moment, container }) => moment === undefined || container === undefined, {
    path: ['container'],
    message: 'log is replayed by the programs of the host',
  })

const decisionReason = z
  .string()
  .min(1)
  .max(1000)
  .refine(noControl, 'must not hold control characters')
  .refine(text => text.trim() !== '', 'say why')

export const approveInput = z.strictObject({
  /** Of the user who approves, typed again. */
  password: z.string().min(1).max(4096),
  /** The name of the target, exactly as the plan shows it. */
  targetName: databaseName,
  reason: decisionReason,
  planDigest: z.string().regex(/^[0-9a-f]{64}$/, 'use the digest of the plan'),
  /** Waives the second person, nothing else. Announced. */
  breakGlass: z.boolean().optional(),
})
export const rejectInput = z.strictObject({ reason: decisionReason })
/** What is absent stays. */
export const connectionPolicyInput = z
  .strictObject({ twoPerson: connectionInput.shape.twoPerson, canary: connectionInput.shape.canary })
  .refine(policy => Object.keys(policy).length > 0, 'say at least one')

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

export const verifyInput = z.strictObject({
  level: z.enum(verifyLevels).optional(),
  /** Destination of the copy to look at; absent: the first that answers. */
  from: slug.optional(),
  /** Brings back what lies in an archive, and reads it then. Absent: `destination.archived`, and nothing is asked for. */
  thaw: z.boolean().optional(),
})

export const copyInput = z.strictObject({
  /** Destination to copy it to. */
  to: slug,
  /** Destination of the copy to read; absent: the first that answers and is whole. */
  from: slug.optional(),
  unattended,
})

export const scrubOptions = z.strictObject({
  level: z.enum(verifyLevels).optional(),
  /** Stored bytes that are read at most; absent: every backup. */
  budgetBytes: z.int().min(1).optional(),
})
export const scrubInput = scrubOptions.extend({
  /** Absent: every one. */
  destination: slug.optional(),
})

const passphrase = z.string().min(12).max(1024)

export const keyInput = z.strictObject({
  name: slug,
  /** PEM or JWK of a public key (RSA ≥ 2048, EC P-256/P-384): encrypt only. Absent: a new key file is made. */
  publicKey: z.string().max(16384).optional(),
  /** Locks the key file that is made; kept nowhere. Not with `publicKey`. */
  passphrase: passphrase.optional(),
  /** A key of AWS KMS by its ARN; it never leaves there. Not with the others. */
  awsKms: z.string().max(2048).optional(),
  /** The same of Google Cloud KMS by its resource name, and of Azure Key Vault by its id with the version. */
  gcpKms: z.string().max(2048).optional(),
  azureKey: z.string().max(2048).optional(),
})

export const rotateInput = z.strictObject({
  /** The key that takes its place. */
  to: slug,
})

export const retireInput = z.strictObject({
  /** Backups may be left that only keys open whose private part lies elsewhere. */
  openedElsewhere: z.boolean().optional(),
})

export const unlockInput = z.strictObject({
  passphrase,
  /** Until it is locked again; an hour when absent. */
  minutes: z.int().min(1).max(1440).optional(),
})

export const takeoverInput = z.strictObject({ reason: z.string().max(1000).optional() })

/** Absent destination: all of them. */
export const rebuildInput = z.strictObject({ destination: slug.optional() })

/** What does not exist in the catalog yet: dumps and archives of other programs. */
export const syncInput = z.strictObject({
  /** Name of a destination, the URI of one or of a place in it, or an absolute path on the machine of the API. */
  source: z.string().min(1).max(4096),
  /** The destination that `source` has to lie in. */
  destination: slug.optional(),
  /** Goes on behind this file: `next` of the answer before. */
  after: z.string().min(1).max(4096).optional(),
})

export const sweepInput = z.strictObject({
  /** Only this one, and no machine's staging. */
  destination: slug.optional(),
  dryRun: z.boolean().optional(),
  /**
   * Also what this catalog does not know, as after a lost one: staging, and at destinations what nobody committed and nobody
   * touched for a day.
   */
  unknown: z.boolean().optional(),
  unattended,
})

export type SweepRequestInput = z.infer<typeof sweepInput>
export type ScrubRequestInput = z.infer<typeof scrubInput>
export type ConnectionInput = z.infer<typeof connectionInput>
export type ConnectionChange = z.infer<typeof connectionChange>
export type DestinationChange = z.infer<typeof destinationChange>
export type DestinationInput = z.infer<typeof destinationInput>
export type BackupRequestInput = z.infer<typeof backupInput>
export type PrecheckInput = z.infer<typeof precheckInput>
export type DrillRequestInput = z.infer<typeof drillInput>
export type RestoreRequestInput = z.infer<typeof restoreInput>
export type PitrRequestInput = z.infer<typeof pitrInput>
export type HostChange = z.infer<typeof hostChange>
export type HostInput = z.infer<typeof hostInput>
