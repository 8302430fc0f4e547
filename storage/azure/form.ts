/** What people type for Azure Blob Storage: `azure://container/prefix`, its settings and credentials. */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'
import { z } from 'zod'
import { HoldfastError } from '../../model/errors.ts'
import { objectLock } from '../../model/keeping.ts'
import type { Json } from '../../model/types.ts'
import type { ServicePrincipal } from '../entra.ts'
import {
  bucketUri,
  invalidSecret,
  invalidUri,
  type KindForm,
  parseBucket,
  parseSettings,
  plainEndpoint,
  tiersAmong,
} from '../kind.ts'

const title = 'Azure Blob Storage'

const schema = z.strictObject({
  /** The storage account. */
  account: z.string().regex(/^[a-z0-9]{3,24}$/, 'an account has 3 to 24 lower-case letters and digits'),
  /** Absent: `https://<account>.blob.core.windows.net`. */
  endpoint: z.url({ protocol: /^https?$/ }).optional(),
  /** The tier of artifacts; what is small stays in the account's own. */
  storageClass: z
    .enum(['Hot', 'Cool', 'Cold', 'Archive'], 'it must be one of Hot, Cool, Cold, Archive')
    .optional(),
  /** A scope of the account, which says under which key objects are encrypted. */
  encryptionScope: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9-]{1,61}[A-Za-z0-9]$/, 'a scope has 3 to 63 letters, digits and dashes')
    .optional(),
  /** Of every object: index tags. */
  tags: z
    .record(
      z.string().regex(/^[A-Za-z0-9 +\-./:=_]{1,128}$/),
      z.string().regex(/^[A-Za-z0-9 +\-./:=_]{0,256}$/),
    )
    .refine(tags => Object.keys(tags).length <= 10, 'ten at most')
    .optional(),
  metadata: z
    .record(
      z
        .string()
        .regex(/^[a-z_][a-z0-9_]{0,63}$/, 'names have small letters, digits and underscores')
        .refine(name => !name.startsWith('holdfast'), 'names that begin with holdfast are ours'),
      z.string().regex(/^[\x20-\x7e]{0,512}$/),
    )
    .refine(values => JSON.stringify(values).length <= 4096, '4 KB at most')
    .optional(),
  /** Of what belongs to backups. */
  objectLock: objectLock.optional(),
  legalHold: z.boolean().optional(),
  tiers: tiersAmong(['Hot', 'Cool', 'Cold', 'Archive'], { others: false }).optional(),
})

export type AzureSettings = z.infer<typeof schema>

/** Of an application that Microsoft Entra ID knows. */
const principalFields = ['tenantId', 'clientId', 'clientSecret', 'clientCertificate'] as const
const isOfPrincipal = (field: string) => (principalFields as readonly string[]).includes(field)

export const azureForm: KindForm = {
  kind: 'azure',
  title,
  schemes: ['azure', 'az', 'azblob', 'azureblob', 'azure_blob', 'azure-blob', 'blob'],
  parse(scheme, rest, extras) {
    const place = parseBucket(scheme, rest, {
      called: 'container',
      isName: /^(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/,
      names: '3 to 63 lower-case letters, digits and single dashes',
    })
    if (place.prefix.includes('\\')) invalidUri('a prefix cannot hold a backslash in Azure')
    return { uri: bucketUri('azure', place), settings: azureSettingsFrom({ ...extras }) }
  },
  secretFields: ['accountKey', 'sasToken', 'connectionString', ...principalFields],
  placeIn(secrets) {
    const { account, endpoint } = credentialOf(secrets) ?? {}
    return { ...(account === undefined ? {} : { account }), ...(endpoint === undefined ? {} : { endpoint }) }
  },
  checkSecrets(secrets) {
    const given = Object.keys(secrets).filter(field => secrets[field])
    const [first, ...more] = given
    const apart = more.find(field => !isOfPrincipal(field) || !isOfPrincipal(first ?? ''))
    if (first !== undefined && apart !== undefined) {
      invalidSecret(apart, `${first} is given, too; one of them is enough`)
    }
    credentialOf(secrets)
  },
}

/** Throws `request.invalid` naming the field. */
function azureSettingsFrom(given: Record<string, unknown>): Record<string, Json> {
  const account = given.account ?? accountIn(given.endpoint)
  if (account === undefined) {
    throw new HoldfastError(
      'request.invalid',
      "The destination's account is missing: say the storage account, e.g. --account acmebackups.",
      { context: { field: 'account' } },
    )
  }
  const settings = parseSettings(schema, { ...given, account }, title)
  const named = accountIn(settings.endpoint)
  if (named !== undefined && named !== settings.account) {
    throw new HoldfastError(
      'request.invalid',
      `The destination's account cannot be used: the endpoint is the one of account ${named}.`,
      { context: { field: 'account' } },
    )
  }
  const { account: name, endpoint, ...options } = settings
  return {
    account: name,
    ...(endpoint === undefined ? {} : { endpoint: plainEndpoint(endpoint) }),
    ...(Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Record<
      string,
      Json
    >),
  }
}

/** `https://acmebackups.blob.core.windows.net` names its account. */
const accountIn = (endpoint: unknown): string | undefined =>
  typeof endpoint === 'string'
    ? /^https:\/\/([a-z0-9]{3,24})\.blob\.core\.[a-z.]+\/?$/.exec(endpoint)?.[1]
    : undefined

export const readAzureSettings = (stored: Record<string, Json>): AzureSettings =>
  schema.parse(azureSettingsFrom(stored))

export interface AzureCredential {
  accountKey?: string
  /** Without a leading question mark. */
  sasToken?: string
  principal?: ServicePrincipal
  /** What a connection string says of its place. */
  account?: string
  endpoint?: string
}

/** What the secrets hold; undefined when there are none. Throws `request.invalid` naming the field. */
export function credentialOf(secrets: Record<string, string>): AzureCredential | undefined {
  if (secrets.connectionString) return fromConnectionString(secrets.connectionString)
  if (secrets.accountKey) return { accountKey: expectKey('accountKey', secrets.accountKey) }
  if (secrets.sasToken) return { sasToken: expectSas('sasToken', secrets.sasToken) }
  if (principalFields.some(field => secrets[field])) return { principal: expectPrincipal(secrets) }
  return undefined
}

function fromConnectionString(text: string): AzureCredential {
  const field = 'connectionString'
  const values = new Map<string, string>()
  for (const pair of text.split(';')) {
    if (pair.trim() === '') continue
    const at = pair.indexOf('=')
    if (at < 1) invalidSecret(field, 'it must be NAME=VALUE pairs with semicolons between them')
    values.set(pair.slice(0, at).trim().toLowerCase(), pair.slice(at + 1).trim())
  }
  const endpoint =
    values.get('blobendpoint') ??
    (values.has('accountname') && values.has('endpointsuffix')
      ? `${values.get('defaultendpointsprotocol') ?? 'https'}://${values.get('accountname')}.blob.${values.get('endpointsuffix')}`
      : undefined)
  const place = {
    ...(values.has('accountname') ? { account: values.get('accountname') ?? '' } : {}),
    ...(endpoint === undefined ? {} : { endpoint: endpoint.replace(/\/+$/, '') }),
  }
  const key = values.get('accountkey')
  if (key !== undefined) return { ...place, accountKey: expectKey(field, key) }
  const sas = values.get('sharedaccesssignature')
  if (sas !== undefined) return { ...place, sasToken: expectSas(field, sas) }
  return invalidSecret(field, 'it has neither AccountKey nor SharedAccessSignature')
}

const keyBytes = 64

function expectKey(field: string, key: string): string {
  const isBase64 = /^[A-Za-z0-9+/]+={0,2}$/.test(key)
  if (isBase64 && Buffer.from(key, 'base64').length === keyBytes) return key
  return invalidSecret(field, `an account key is base64 of ${keyBytes} bytes, as the portal shows it`)
}

function expectSas(field: string, token: string): string {
  const sas = token.replace(/^\?/, '')
  const values = new URLSearchParams(sas)
  if (!values.get('sig') || !values.get('sv')) {
    invalidSecret(field, 'a shared access signature has sv=… and sig=… in it')
  }
  const ends = values.get('se')
  if (ends !== null && Date.parse(ends) < Date.now()) {
    // Not a matter of form: one that was good when it was given must park the operation that finds it expired.
    throw new HoldfastError(
      'destination.denied',
      `The destination's ${field} cannot be used: the shared access signature expired at ${ends}.`,
      { hint: 'Give a fresh signature: holdfast destination change.', context: { field } },
    )
  }
  return sas
}

const guid = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i

function expectPrincipal(secrets: Record<string, string>): ServicePrincipal {
  const { tenantId = '', clientId = '', clientSecret = '', clientCertificate = '' } = secrets
  if (!guid.test(tenantId) && !/^(?=.{4,253}$)[a-z0-9-]+(\.[a-z0-9-]+)+$/i.test(tenantId)) {
    invalidSecret('tenantId', 'it must be the id of a tenant (directory), or one of its domains')
  }
  if (!guid.test(clientId)) invalidSecret('clientId', 'it must be the id of an application (client)')
  if (clientSecret !== '' && clientCertificate !== '') {
    invalidSecret('clientCertificate', 'clientSecret is given, too; one of them is enough')
  }
  if (clientCertificate !== '') {
    return { tenantId, clientId, proof: { clientCertificate: expectCertificate(clientCertificate) } }
  }
  if (guid.test(clientSecret)) {
    invalidSecret('clientSecret', 'this is the id of a secret; its value is needed')
  }
  if (!/^[\x21-\x7e]{8,512}$/.test(clientSecret)) {
    invalidSecret('clientSecret', 'the value of a client secret, or clientCertificate, is needed')
  }
  return { tenantId, clientId, proof: { clientSecret } }
}

/** PEM, with its private key. */
function expectCertificate(pem: string): string {
  const field = 'clientCertificate'
  if (/-----BEGIN ENCRYPTED PRIVATE KEY-----|Proc-Type: 4,ENCRYPTED/.test(pem)) {
    invalidSecret(
      field,
      'its private key is locked with a passphrase: it is stored encrypted here, without one',
    )
  }
  let certificate: X509Certificate
  let key: KeyObject
  try {
    certificate = new X509Certificate(pem)
    key = createPrivateKey(pem)
  } catch {
    return invalidSecret(field, 'it must be PEM of a certificate and its private key')
  }
  if (key.asymmetricKeyType !== 'rsa') invalidSecret(field, 'its key must be RSA: others are not taken there')
  if (!certificate.checkPrivateKey(key)) invalidSecret(field, "the private key is another certificate's")
  if (certificate.validToDate.getTime() < Date.now()) {
    // As with signatures: one that was good when it was given must park the operation that finds it expired.
    throw new HoldfastError(
      'destination.denied',
      `The destination's ${field} cannot be used: the certificate expired at ${certificate.validToDate.toISOString()}.`,
      { hint: 'Give a fresh certificate: holdfast destination change.', context: { field } },
    )
  }
  return pem
}
