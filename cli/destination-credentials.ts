/** Credentials of a destination, from where people keep them: never from the command line. */
import { readFile } from 'node:fs/promises'
import { HoldfastError } from '../model/errors.ts'
import type { DestinationKind } from '../model/types.ts'

export interface CredentialOptions {
  credentialsFile?: string
  credentialsEnv?: boolean
}

type Values = Record<string, string | undefined>

/** Fields of the API by the kind of the destination; none when no option asks for any. Throws `request.invalid`. */
export async function credentialsOf(
  options: CredentialOptions,
  kind: DestinationKind,
): Promise<Record<string, string>> {
  if (options.credentialsEnv === true && options.credentialsFile !== undefined) {
    throw new HoldfastError('request.invalid', 'Give only one of --credentials-env and --credentials-file.')
  }
  const path = options.credentialsFile
  if (options.credentialsEnv !== true && path === undefined) return {}
  const source = path ?? 'The environment'
  const values = path === undefined ? process.env : variablesIn(await contents(path))
  switch (kind) {
    case 'local':
    case 'server':
      throw new HoldfastError(
        'request.invalid',
        'A directory needs no credentials; those of a server belong to its host.',
      )
    case 's3':
      return awsFields(values, source)
    case 'azure':
      return await azureFields(values, source)
    case 'gcs':
      return await googleFields(path)
  }
}

/** The key file itself is the secret; the environment names it. */
async function googleFields(path: string | undefined): Promise<Record<string, string>> {
  const file = path ?? process.env.GOOGLE_APPLICATION_CREDENTIALS
  if (file) return { serviceAccountKey: await contents(file) }
  throw new HoldfastError('request.invalid', 'GOOGLE_APPLICATION_CREDENTIALS does not name a key file.')
}

async function contents(path: string): Promise<string> {
  return await readFile(path, 'utf8').catch(error => {
    throw new HoldfastError(
      'request.invalid',
      `The credentials file ${path} cannot be read: ${String(error.message)}.`,
    )
  })
}

/** `NAME = value` lines: of the [default] section, where there are sections. Names in upper case. */
function variablesIn(text: string): Values {
  const values: Values = {}
  let section = 'default'
  for (const line of text.split('\n')) {
    const heading = /^\s*\[\s*(.*?)\s*\]/.exec(line)
    if (heading) section = heading[1] ?? ''
    const pair = /^\s*(?:export\s+)?([A-Za-z_]+)\s*=\s*(.*?)\s*$/.exec(line)
    if (!pair || section !== 'default') continue
    values[(pair[1] ?? '').toUpperCase()] = (pair[2] ?? '').replace(/^(["'])(.*)\1$/, '$2')
  }
  return values
}

function awsFields(values: Values, source: string): Record<string, string> {
  const accessKeyId = values.AWS_ACCESS_KEY_ID
  const secretAccessKey = values.AWS_SECRET_ACCESS_KEY
  if (!accessKeyId || !secretAccessKey) {
    throw new HoldfastError(
      'request.invalid',
      `${source} does not hold both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.`,
    )
  }
  const sessionToken = values.AWS_SESSION_TOKEN
  return { accessKeyId, secretAccessKey, ...(sessionToken ? { sessionToken } : {}) }
}

/** One of them, in the order of Azure's own tools. */
async function azureFields(values: Values, source: string): Promise<Record<string, string>> {
  const { AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN } = values
  if (AZURE_STORAGE_CONNECTION_STRING) return { connectionString: AZURE_STORAGE_CONNECTION_STRING }
  if (AZURE_STORAGE_KEY) return { accountKey: AZURE_STORAGE_KEY }
  if (AZURE_STORAGE_SAS_TOKEN) return { sasToken: AZURE_STORAGE_SAS_TOKEN }
  const { AZURE_TENANT_ID: tenantId, AZURE_CLIENT_ID: clientId, AZURE_CLIENT_SECRET: clientSecret } = values
  const certificate = values.AZURE_CLIENT_CERTIFICATE_PATH
  if (tenantId && clientId && clientSecret) return { tenantId, clientId, clientSecret }
  if (tenantId && clientId && certificate) {
    return { tenantId, clientId, clientCertificate: await contents(certificate) }
  }
  throw new HoldfastError(
    'request.invalid',
    `${source} holds none of AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY and AZURE_STORAGE_SAS_TOKEN, nor AZURE_TENANT_ID and AZURE_CLIENT_ID with AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH.`,
  )
}
