/** What people type for Google Cloud Storage: `gcs://bucket/prefix`, its settings and credentials. */
import { createPrivateKey } from 'node:crypto'
import { z } from 'zod'
import { objectLock } from '../../model/keeping.ts'
import type { Json } from '../../model/types.ts'
import {
  bucketUri,
  invalidSecret,
  type KindForm,
  parseBucket,
  parseSettings,
  plainEndpoint,
  refuseTiersUnderLock,
  tiersAmong,
} from '../kind.ts'

const title = 'Google Cloud Storage'

const schema = z.strictObject({
  /** Absent: Google's own. Over plain HTTP (an emulator) no credentials are sent. */
  endpoint: z.url({ protocol: /^https?$/ }).optional(),
  /** Of artifacts; what is small stays in the bucket's own. All of them are readable at once. */
  storageClass: z
    .enum(
      ['STANDARD', 'NEARLINE', 'COLDLINE', 'ARCHIVE'],
      'it must be one of STANDARD, NEARLINE, COLDLINE, ARCHIVE',
    )
    .optional(),
  /** Of every object: a key of Cloud KMS. */
  kmsKeyId: z
    .string()
    .regex(
      /^projects\/[^/\s]+\/locations\/[^/\s]+\/keyRings\/[^/\s]+\/cryptoKeys\/[^/\s]+$/,
      'it must look like projects/…/locations/…/keyRings/…/cryptoKeys/…',
    )
    .optional(),
  /** Of every object. */
  metadata: z
    .record(
      z
        .string()
        .regex(/^[a-z0-9][a-z0-9_-]{0,63}$/, 'names have small letters, digits, dashes and underscores')
        .refine(name => !name.startsWith('holdfast'), 'names that begin with holdfast are ours'),
      z.string().regex(/^[^\p{Cc}]{0,512}$/u),
    )
    .refine(values => JSON.stringify(values).length <= 4096, '4 KB at most')
    .optional(),
  /** Of what belongs to backups. */
  objectLock: objectLock.optional(),
  legalHold: z.boolean().optional(),
  tiers: tiersAmong(['STANDARD', 'NEARLINE', 'COLDLINE', 'ARCHIVE'], { others: false }).optional(),
})

export type GcsSettings = z.infer<typeof schema>

export const gcsForm: KindForm = {
  kind: 'gcs',
  title,
  schemes: ['gcs', 'gs', 'gcp', 'google', 'google_cloud_storage', 'google-cloud-storage'],
  parse(scheme, rest, extras) {
    const place = parseBucket(scheme, rest, {
      called: 'bucket',
      isName: /^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$/,
      names: '3 to 222 lower-case letters, digits, dots, dashes and underscores',
    })
    const { endpoint, ...options } = parseSettings(schema, extras, title)
    refuseTiersUnderLock(options)
    const settings = {
      ...(endpoint === undefined ? {} : { endpoint: plainEndpoint(endpoint) }),
      ...options,
    }
    return { uri: bucketUri('gcs', place), settings: settings as Record<string, Json> }
  },
  secretFields: ['serviceAccountKey'],
  checkSecrets({ serviceAccountKey }) {
    if (serviceAccountKey) readServiceAccountKey(serviceAccountKey)
  },
}

export const readGcsSettings = (stored: Record<string, Json>): GcsSettings => schema.parse(stored)

const keyFile = z.looseObject({
  type: z.literal('service_account'),
  client_email: z.email(),
  private_key: z.string(),
})

export type ServiceAccountKey = z.infer<typeof keyFile>

/** The JSON key file of a service account. Throws `request.invalid` naming the field. */
export function readServiceAccountKey(text: string): ServiceAccountKey {
  const field = 'serviceAccountKey'
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return invalidSecret(field, 'it is not the JSON of a key file')
  }
  const parsed = keyFile.safeParse(json)
  if (!parsed.success) {
    const where = parsed.error.issues[0]?.path.join('.') || 'it'
    return invalidSecret(field, `${where} is not what a service account's key file has`)
  }
  try {
    createPrivateKey(parsed.data.private_key)
  } catch {
    return invalidSecret(field, 'its private_key is not a private key in PEM')
  }
  return parsed.data
}
