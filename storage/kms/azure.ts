/** Azure Key Vault by its REST API: RSA keys, RSA-OAEP-256. */
import { readFile } from 'node:fs/promises'
import { HoldfastError } from '../../model/errors.ts'
import type { Kms } from './kms.ts'
import { type Answer, bytesOf, post } from './request.ts'

/** With its version: another version of a key is another key. */
const keyId =
  /^https:\/\/[a-z0-9-]{1,60}\.(vault|managedhsm)\.(azure\.net|azure\.cn|usgovcloudapi\.net)\/keys\/[A-Za-z0-9-]{1,127}\/[0-9a-f]{32}$/
const version = '7.4'
const answerMs = 8000

/** How a test asks an address of its own: the key's, with the path kept. */
export interface Way {
  endpoint: string
  token(): Promise<string>
}

export function azureKey(key: string, way: Way = azure(key)): Kms {
  if (!keyId.test(key)) {
    throw new HoldfastError(
      'key.invalid',
      `Using Azure Key Vault: "${key.slice(0, 200)}" is not the id of a key (https://VAULT.vault.azure.net/keys/NAME/VERSION).`,
    )
  }
  const call = async (
    doing: 'wrapkey' | 'unwrapkey',
    bytes: Uint8Array,
    meaning: (answer: Answer) => 'artifact.corrupted' | 'key.kms-unusable' | undefined,
  ) => {
    const what = `${doing === 'wrapkey' ? 'Encrypting' : 'Decrypting'} with Azure's key ${key}`
    const url = `${way.endpoint}${new URL(key).pathname}/${doing}?api-version=${version}`
    const document = { alg: 'RSA-OAEP-256', value: Buffer.from(bytes).toString('base64url') }
    const { value } = await post(what, url, way.token, document, meaning)
    return bytesOf(what, value, 'base64url')
  }
  return {
    encrypt: plain => call('wrapkey', plain, disabled),
    decrypt: encrypted =>
      call(
        'unwrapkey',
        encrypted,
        answer => disabled(answer) ?? (answer.status === 400 ? 'artifact.corrupted' : undefined),
      ),
  }
}

const disabled = ({ body }: Answer) =>
  /KeyDisabled|KeyExpired|KeyNotYetValid/.test(JSON.stringify(body))
    ? ('key.kms-unusable' as const)
    : undefined

const azure = (key: string): Way => ({
  endpoint: URL.canParse(key) ? new URL(key).origin : '',
  token: () => vaultToken(key),
})

/** A service principal's secret or federated token where the environment has one, else the machine's own identity. */
async function vaultToken(key: string): Promise<string> {
  const { AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_FEDERATED_TOKEN_FILE } = process.env
  const authority = (process.env.AZURE_AUTHORITY_HOST || 'https://login.microsoftonline.com').replace(
    /\/+$/,
    '',
  )
  const resource = `https://${new URL(key).hostname.split('.').slice(1).join('.')}`
  if (AZURE_TENANT_ID && AZURE_CLIENT_ID && (AZURE_CLIENT_SECRET || AZURE_FEDERATED_TOKEN_FILE)) {
    const proof = AZURE_CLIENT_SECRET
      ? { client_secret: AZURE_CLIENT_SECRET }
      : {
          client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
          client_assertion: (await readFile(AZURE_FEDERATED_TOKEN_FILE ?? '', 'utf8')).trim(),
        }
    const form = {
      grant_type: 'client_credentials',
      client_id: AZURE_CLIENT_ID,
      scope: `${resource}/.default`,
    }
    return await tokenOf(`${authority}/${encodeURIComponent(AZURE_TENANT_ID)}/oauth2/v2.0/token`, {
      method: 'POST',
      body: new URLSearchParams({ ...form, ...proof }),
    })
  }
  const query = new URLSearchParams({
    'api-version': '2018-02-01',
    resource,
    ...(AZURE_CLIENT_ID ? { client_id: AZURE_CLIENT_ID } : {}),
  })
  return await tokenOf(`http://169.254.169.254/metadata/identity/oauth2/token?${query}`, {
    headers: { metadata: 'true' },
  })
}

async function tokenOf(url: string, init: RequestInit): Promise<string> {
  const answer = await fetch(url, { ...init, redirect: 'error', signal: AbortSignal.timeout(answerMs) })
  const { access_token: token } = (await answer.json()) as { access_token?: unknown }
  if (answer.ok && typeof token === 'string') return token
  throw new Error(`${new URL(url).hostname} answered ${answer.status}`)
}
