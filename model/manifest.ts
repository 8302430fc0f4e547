/**
 * What Holdfast writes into a destination beside the artifacts. Versioned; unknown fields are refused.
 * Published as JSON Schemas in docs/formats/ (made from here by `npm run formats`).
 * All numbers are integers, so that the canonical form (RFC 8785) is plain `JSON.stringify` over sorted keys.
 */
import { z } from 'zod'
import { backupIdPattern, slugPattern } from './ids.ts'

const bytes = z.int().nonnegative()
const sha256 = z.string().regex(/^[0-9a-f]{64}$/)
const time = z.iso.datetime()

const artifactEntry = z.strictObject({
  /** Name without the suffixes of compression and encryption, e.g. `shop.dump`. Part of the associated data. */
  name: z.string().min(1),
  /** Key of the object relative to the backup's folder: `<attemptId>/<name>[.zst|.lz4|.gz][.tink]`. */
  object: z.string().min(1),
  /** What the tool wrote, e.g. `pgdump-custom`, `pgdump-directory-tar`, `sqlite-file`, `sqlite-dump`. */
  format: z.string().min(1),
  storedBytes: bytes,
  /** SHA-256 of the stored object, hex. */
  storedSha256: sha256,
  /** Length of the tool's bytes, before compression. */
  toolBytes: bytes,
  /** Bytes between compression and encryption (frames and seek table); equals storedBytes when not encrypted. */
  compressedBytes: bytes,
  compression: z.strictObject({
    codec: z.enum(['zstd', 'lz4', 'gzip', 'none']),
    /** 0 where the codec has none. */
    level: z.int(),
    /** The program that compressed, with its version, e.g. `pzstd 1.5.4`. */
    encoder: z.string(),
    /** Bytes of the tool in each frame but the last; 0 with the codec `none`. */
    frameBytes: bytes,
    /** 0 with the codec `none`. */
    frames: z.int().nonnegative(),
    /** zstd's long mode: its one frame refers back by up to 2^longWindow bytes, and is read with `zstd -d --long=<longWindow>`. */
    longWindow: z.int().min(20).max(31).optional(),
    /** Asked for with `auto`: so many frames hold their bytes uncompressed, as they did not shrink. */
    storedFrames: z.int().nonnegative().optional(),
  }),
  encryption: z
    .strictObject({
      scheme: z.literal('tink-AES256_GCM_HKDF_1MB'),
      /** The key sidecar written with the artifact, relative to the backup's folder: `<attemptId>/keys-1.json`. Its entry
       * of the artifact's name holds the wrapped data key; a rotation adds `keys-<n>.json` beside it. */
      keySidecar: z.string(),
      /** Associated data, exactly as given to the AEAD (UTF-8). */
      associatedData: z.string(),
    })
    .nullable(),
})

export const manifestSchema = z.strictObject({
  format: z.literal('holdfast-manifest/1'),
  backupId: z.string().regex(backupIdPattern),
  installationId: z.string(),
  epoch: z.int().positive(),
  attemptId: z.string(),
  connection: z.string().regex(slugPattern),
  engine: z.string(),
  method: z.string(),
  /** What the tool wrote: `custom`, `directory`, `copy`, `dump`. */
  toolFormat: z.string(),
  type: z.string(),
  consistency: z.enum(['snapshot', 'point-in-time', 'fuzzy']),
  server: z.strictObject({ identity: z.string(), version: z.string(), database: z.string() }),
  /** Engine facts that a restore needs (encoding, owner, settings …): strings, integers, booleans, null, lists, objects. */
  facts: z.record(z.string(), z.json()),
  tools: z.array(z.strictObject({ name: z.string(), version: z.string() })),
  /** The commands that ran, with secrets left out. */
  commands: z.array(z.string()),
  artifacts: z.array(artifactEntry).min(1),
  parent: z.string().nullable(),
  startedAt: time,
  endedAt: time,
  labels: z.record(z.string(), z.string()),
})

/** The signed document: the manifest's fields and `signature`, a compact JWS (EdDSA) with detached payload. */
export const signedManifestSchema = manifestSchema.extend({ signature: z.string() })

export const keySidecarSchema = z.strictObject({
  format: z.literal('holdfast-keys/1'),
  backupId: z.string(),
  attemptId: z.string(),
  artifacts: z.array(
    z.strictObject({
      name: z.string(),
      /** JWE, general JSON serialisation: the 32-byte data key for each recipient. */
      jwe: z.record(z.string(), z.json()),
    }),
  ),
})

export const deletedSchema = z.strictObject({
  format: z.literal('holdfast-deleted/1'),
  backupId: z.string(),
  at: time,
  by: z.string(),
  reason: z.string(),
})

export const installationSchema = z.strictObject({
  format: z.literal('holdfast-installation/1'),
  installationId: z.string(),
  /** Ed25519 public key as JWK. */
  publicKey: z.record(z.string(), z.string()),
  createdAt: time,
})

export const epochSchema = z.strictObject({
  format: z.literal('holdfast-epoch/1'),
  epoch: z.int().positive(),
  installationId: z.string(),
  /** Random id of the catalog that holds this epoch: a copied or rebuilt catalog has another. */
  instanceId: z.string(),
  publicKey: z.record(z.string(), z.string()),
  at: time,
  reason: z.string(),
})

const jwk = z.record(z.string(), z.string())
const keyName = z.string().regex(slugPattern)

/** `<keys>/<name>.json`, 0600: opens what was encrypted for it. Holds the private key in the clear. */
export const keyFileSchema = z.strictObject({
  format: z.literal('holdfast-key/1'),
  name: keyName,
  /** RFC 7638 thumbprint (SHA-256, base64url) of the public key: names the recipient in the wrapped data keys. */
  kid: z.string(),
  createdAt: time,
  /** EC P-256 private key as JWK. */
  privateKey: jwk,
  /** Ed25519 public keys (JWK) by installation id: whose manifests the owner of this key trusts. */
  installations: z.record(z.string(), jwk),
})

/** `<keys>/<name>.json`, too: as a key file, but the private key is locked by a passphrase that is kept nowhere. */
export const lockedKeyFileSchema = z.strictObject({
  format: z.literal('holdfast-locked-key/1'),
  name: keyName,
  kid: z.string(),
  createdAt: time,
  /** EC P-256 public key as JWK: what backups are encrypted for. */
  publicKey: jwk,
  /** How the passphrase (UTF-8, NFC) becomes the 32-byte key of `lockedKey`: Argon2id, version 0x13, as RFC 9106 has it. */
  lock: z.strictObject({
    kdf: z.literal('argon2id'),
    memoryKiB: z.int().min(8192).max(2_097_152),
    passes: z.int().min(1).max(64),
    parallelism: z.int().min(1).max(16),
    /** base64url. */
    salt: z.string().min(11).max(86),
  }),
  /** The private key's JWK as a compact JWE: `dir`, `A256GCM`, `kid` in its protected header. */
  lockedKey: z.string().max(4096),
  installations: z.record(z.string(), jwk),
})

/** `<keys>/<name>.json`, too: names a key that never leaves a key management service. Holds no secret. */
export const kmsKeyFileSchema = z.strictObject({
  format: z.literal('holdfast-kms-key/1'),
  name: keyName,
  /** `<service>:<key>`. */
  kid: z.string(),
  createdAt: time,
  kms: z.strictObject({
    service: z.enum(['aws-kms', 'gcp-kms', 'azure-key-vault']),
    /** As the service names it: ARN, resource name, key id with its version. */
    key: z.string().min(1).max(2048),
  }),
  installations: z.record(z.string(), jwk),
})

/** `<keys>/<name>.pub.json`: data keys are wrapped for it; opening needs the private key that lies elsewhere. */
export const recipientFileSchema = z.strictObject({
  format: z.literal('holdfast-recipient/1'),
  name: keyName,
  kid: z.string(),
  algorithm: z.enum(['ECDH-ES+A256KW', 'RSA-OAEP-256']),
  createdAt: time,
  /** Public key as JWK: EC P-256 or P-384, X25519, RSA of 2048 bits or more. */
  publicKey: jwk,
})

export type KeyFile = z.infer<typeof keyFileSchema>
export type LockedKeyFile = z.infer<typeof lockedKeyFileSchema>
export type KmsKeyFile = z.infer<typeof kmsKeyFileSchema>
export type KmsKey = KmsKeyFile['kms']
export type RecipientFile = z.infer<typeof recipientFileSchema>
export type ArtifactEntry = z.infer<typeof artifactEntry>
export type Manifest = z.infer<typeof manifestSchema>
export type SignedManifest = z.infer<typeof signedManifestSchema>
export type KeySidecar = z.infer<typeof keySidecarSchema>
export type DeletedMarker = z.infer<typeof deletedSchema>
export type InstallationDocument = z.infer<typeof installationSchema>
export type EpochDocument = z.infer<typeof epochSchema>

/** The one of the services that was named. */
export function kmsKeyOf(named: {
  awsKms?: string | undefined
  gcpKms?: string | undefined
  azureKey?: string | undefined
}): KmsKey | undefined {
  if (named.awsKms !== undefined) return { service: 'aws-kms', key: named.awsKms }
  if (named.gcpKms !== undefined) return { service: 'gcp-kms', key: named.gcpKms }
  return named.azureKey === undefined ? undefined : { service: 'azure-key-vault', key: named.azureKey }
}

/** What binds an artifact's ciphertext to its place: the associated data of its AEAD. */
export const associatedDataFor = (installationId: string, backupId: string, artifact: string): string =>
  `holdfast/1\n${installationId}\n${backupId}\n${artifact}`

/** The canonical bytes that are signed: RFC 8785 over the manifest without `signature` (integers and strings only). */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (value !== null && typeof value === 'object') {
    const entries = Object.entries(value).filter(([, v]) => v !== undefined)
    entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    return `{${entries.map(([k, v]) => `${JSON.stringify(k)}:${canonical(v)}`).join(',')}}`
  }
  return JSON.stringify(value)
}
