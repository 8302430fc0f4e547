/** What people type for S3 and what speaks it: `s3://bucket/prefix`, its settings and credentials. */
import { z } from 'zod'
import { HoldfastError } from '../../model/errors.ts'
import { objectLock } from '../../model/keeping.ts'
import type { Json } from '../../model/types.ts'
import {
  bucketUri,
  invalidSecret,
  invalidUri,
  type KindForm,
  parseBucket,
  parseSettings,
  plainEndpoint,
  refuseTiersUnderLock,
  tiersAmong,
} from '../kind.ts'

const title = 'an S3 store'

/** Amazon's, from the warmest to the coldest. */
const classes = [
  'STANDARD',
  'INTELLIGENT_TIERING',
  'STANDARD_IA',
  'ONEZONE_IA',
  'GLACIER_IR',
  'GLACIER',
  'DEEP_ARCHIVE',
]

const schema = z.strictObject({
  /** Absent: Amazon's own endpoint of the region. */
  endpoint: z.url({ protocol: /^https?$/ }).optional(),
  /** Absent: as the AWS SDK finds it (AWS_REGION, profile). */
  region: z
    .string()
    .regex(/^[a-z0-9-]{1,40}$/)
    .optional(),
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. */
  pathStyle: z.boolean(),
  /** Parts that the store takes for one object. Absent: as is known of the store. */
  maxParts: z.int().min(2).max(10_000).optional(),
  /** `none`: no checksum headers, for stores that refuse them in a way of their own. Absent: tried once. */
  checksums: z.enum(['sha256', 'none']).optional(),
  /** Of artifacts; what is small, manifests among it, stays in the bucket's own. */
  storageClass: z
    .string()
    .regex(/^[A-Z][A-Z0-9_]{0,39}$/)
    .optional(),
  /** By the store, with its own key or one of its KMS. What we encrypt is encrypted already. */
  encryption: z.enum(['AES256', 'aws:kms', 'aws:kms:dsse']).optional(),
  kmsKeyId: z
    .string()
    .regex(/^[\x21-\x7e]{1,2048}$/)
    .optional(),
  /** Of every object. */
  tags: z
    .record(
      z.string().regex(/^[\p{L}\p{N} +\-=._:/@]{1,128}$/u),
      z.string().regex(/^[\p{L}\p{N} +\-=._:/@]{0,256}$/u),
    )
    .refine(tags => Object.keys(tags).length <= 10, 'ten at most')
    .optional(),
  metadata: z
    .record(z.string().regex(/^[a-z0-9][a-z0-9-]{0,63}$/), z.string().regex(/^[\x20-\x7e]{0,512}$/))
    .refine(values => JSON.stringify(values).length <= 2048, '2 KB at most')
    .optional(),
  /** Of what belongs to backups. */
  objectLock: objectLock.optional(),
  legalHold: z.boolean().optional(),
  tiers: tiersAmong(classes, { others: true, archive: 'GLACIER' }).optional(),
})

export type S3Settings = z.infer<typeof schema>

/** Nobody has a default endpoint for these. */
const needEndpoint = ['s3compatible', 's3-compatible', 'minio']

export const s3Form: KindForm = {
  kind: 's3',
  title,
  schemes: ['s3', 'aws', 'amazon', 's3compatible', 's3-compatible', 'minio'],
  parse(scheme, rest, extras) {
    const place = parseBucket(scheme, rest, {
      called: 'bucket',
      isName: /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/,
      names: '3 to 63 lower-case letters, digits, dots and dashes',
    })
    if (needEndpoint.includes(scheme) && extras.endpoint === undefined) {
      invalidUri(`${scheme}: needs an endpoint, e.g. https://minio.example.com:9000`)
    }
    return { uri: bucketUri('s3', place), settings: s3SettingsFrom({ ...extras }) }
  },
  secretFields: ['accessKeyId', 'secretAccessKey', 'sessionToken'],
  checkSecrets({ accessKeyId, secretAccessKey, sessionToken }) {
    if (accessKeyId && !secretAccessKey) {
      invalidSecret('secretAccessKey', 'there is an access key without its secret key')
    }
    if (secretAccessKey && !accessKeyId) {
      invalidSecret('accessKeyId', 'there is a secret key without its access key')
    }
    if (sessionToken && !accessKeyId) invalidSecret('sessionToken', 'it is of no use without its keys')
    if (accessKeyId && /[\s/]/.test(accessKeyId)) {
      invalidSecret('accessKeyId', 'an access key has no spaces and slashes; is it the secret key?')
    }
    if (secretAccessKey && /\s/.test(secretAccessKey)) {
      invalidSecret('secretAccessKey', 'it holds spaces or line ends')
    }
  },
}

/**
 * Fills in what was not said: with an endpoint of one's own, path style and region us-east-1 (which such stores accept).
 * Throws `request.invalid` naming the field.
 */
function s3SettingsFrom(given: Record<string, unknown>): Record<string, Json> {
  const own = given.endpoint !== undefined
  const said = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  const { endpoint, ...rest } = parseSettings(
    schema,
    { pathStyle: own, ...(own ? { region: 'us-east-1' } : {}), ...said },
    title,
  )
  refuseTiersUnderLock(rest)
  if (rest.kmsKeyId !== undefined && (rest.encryption ?? 'AES256') === 'AES256') {
    throw new HoldfastError(
      'request.invalid',
      "The destination's kmsKeyId cannot be used: it needs the encryption aws:kms or aws:kms:dsse.",
      { context: { field: 'kmsKeyId' } },
    )
  }
  const filled = { ...(endpoint === undefined ? {} : { endpoint: plainEndpoint(endpoint) }), ...rest }
  return Object.fromEntries(Object.entries(filled).filter(([, value]) => value !== undefined)) as Record<
    string,
    Json
  >
}

export const readS3Settings = (stored: Record<string, Json>): S3Settings =>
  schema.parse(s3SettingsFrom(stored))
