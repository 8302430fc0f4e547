/**
 * What the log archive keeps beside the log's bytes. Versioned; unknown fields are refused. Published as JSON Schemas in
 * docs/formats/ (made from here by `npm run formats`).
 */
import { z } from 'zod'
import { slugPattern } from './ids.ts'

const bytes = z.int().nonnegative()
const sha256 = z.string().regex(/^[0-9a-f]{64}$/)
const time = z.iso.datetime()
const jwk = z.record(z.string(), z.string())
/** A place in the log, as PostgreSQL writes it: `16/B374D848`. */
const lsn = z.string().regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/)
/** PostgreSQL's, in decimal digits. */
const systemIdentifier = z.string().regex(/^[1-9]\d{0,19}$/)

export const walHeaderSchema = z.strictObject({
  format: z.literal('holdfast-wal/1'),
  connection: z.string().regex(slugPattern),
  systemIdentifier,
  /** As PostgreSQL calls the file, e.g. `000000010000000000000003`. */
  name: z.string(),
  /** The file's bytes, as PostgreSQL gave them. */
  contentBytes: bytes,
  contentSha256: sha256,
  /** Only of history files: the timelines before it and where each was left, so that no key is needed to say what can be reached. */
  branches: z.array(z.strictObject({ timeline: z.int().positive(), leftAt: lsn })).optional(),
  compression: z.strictObject({ codec: z.literal('zstd'), level: z.int(), encoder: z.string() }),
  encryption: z
    .strictObject({
      scheme: z.literal('tink-AES256_GCM_HKDF_1MB'),
      /** Names the data key: one for all that one archiver process seals within a day. */
      keyId: z.string(),
      /** JWE, general JSON serialisation: the 32-byte data key for each recipient. */
      jwe: z.record(z.string(), z.json()),
      /** Associated data, exactly as given to the AEAD (UTF-8). */
      associatedData: z.string(),
    })
    .nullable(),
  /** What follows the header's line feed, to the end of the object. */
  bodyBytes: bytes,
  bodySha256: sha256,
  archiver: z.string(),
  archivedAt: time,
})

/** The first line of an object: the header's fields and `signature`, a compact JWS (EdDSA) with detached payload. */
export const signedWalHeaderSchema = walHeaderSchema.extend({ signature: z.string() })

/** `stream.json`: here is the log archive of this server. Put before its first file. */
export const walStreamSchema = z.strictObject({
  format: z.literal('holdfast-wal-stream/1'),
  connection: z.string().regex(slugPattern),
  engine: z.literal('postgresql'),
  systemIdentifier,
  archiver: z.string(),
  createdAt: time,
})

/** `archiver.json` on a database host, 0600: what signs the files that are archived from there. */
export const archiverFileSchema = z.strictObject({
  format: z.literal('holdfast-archiver/1'),
  archiver: z.string(),
  createdAt: time,
  /** Ed25519 private key as JWK. */
  signingKey: jwk,
  publicKey: jwk,
})

const vouched = {
  connection: z.string().regex(slugPattern),
  systemIdentifier,
  archiver: z.string(),
  /** Ed25519 public key as JWK. */
  publicKey: jwk,
}

/** `archivers/<archiver>.request.json` beside stream.json: an archiver asks to be vouched for. Nobody has signed it. */
export const archiverRequestSchema = z.strictObject({
  format: z.literal('holdfast-archiver-request/1'),
  ...vouched,
  createdAt: time,
})

/** `archivers/<archiver>.<installation>.json`: that installation vouches for it. `signature`: a compact JWS (EdDSA) with detached payload. */
export const vouchedArchiverSchema = z.strictObject({
  format: z.literal('holdfast-vouched-archiver/1'),
  installationId: z.string(),
  ...vouched,
  vouchedAt: time,
  signature: z.string(),
})

/** `wal.json` on a database host. Holds no secret; paths are relative to its own directory. */
export const walConfigSchema = z.strictObject({
  format: z.literal('holdfast-wal-config/1'),
  connection: z.string().regex(slugPattern),
  systemIdentifier,
  destinations: z
    .array(
      z.strictObject({
        uri: z.string(),
        settings: z
          .strictObject({
            endpoint: z.string().optional(),
            region: z.string().optional(),
            pathStyle: z.boolean().optional(),
            account: z.string().optional(),
          })
          .optional(),
        /** References (`env:NAME`, `file:/path`, `vault:MOUNT/PATH#FIELD`) by field; absent: those of the environment. */
        credentials: z.record(z.string(), z.string()).optional(),
      }),
    )
    .min(1),
  archiver: z.string(),
  /** Key files or public keys; `nobody`: what is archived is not encrypted. */
  encryptTo: z.union([z.literal('nobody'), z.array(z.string()).min(1)]),
  /** Key files that open what was encrypted; only `wal fetch` needs them. */
  openWith: z.array(z.string()).optional(),
  /** Ed25519 public keys of other archivers of this server, by their id. */
  trust: z.record(z.string(), jwk).optional(),
  /** Of installations: the archivers that they vouch for are trusted. Those of key files under openWith count, too. */
  installations: z.record(z.string(), jwk).optional(),
  /** Where the agent is asked; `wal.sock` beside this file. */
  socket: z.string().optional(),
  /** So many files are archived before PostgreSQL asks for them. */
  lookAhead: z.int().min(0).max(32).optional(),
  /** So many segments are fetched before PostgreSQL asks for them. */
  prefetch: z.int().min(0).max(32).optional(),
  /** So long a destination in trouble is borne before PostgreSQL is told. */
  patienceSeconds: z.int().min(0).max(600).optional(),
})

export type WalHeader = z.infer<typeof walHeaderSchema>
export type SignedWalHeader = z.infer<typeof signedWalHeaderSchema>
export type WalStreamDocument = z.infer<typeof walStreamSchema>
export type ArchiverRequest = z.infer<typeof archiverRequestSchema>
export type ArchiverFile = z.infer<typeof archiverFileSchema>
export type WalConfig = z.infer<typeof walConfigSchema>
