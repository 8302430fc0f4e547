/**
 * Answers as Microsoft and Google document them for Entra ID's tokens, Azure Key Vault's `wrapKey` and `unwrapKey`, and Cloud
 * KMS's `encrypt` and `decrypt`, with keys that really encrypt, over TLS and under their names: programs are led here by
 * `test/support/reroute-child.ts`. None of these services could be had where Holdfast is made; the README says so.
 */
import {
  constants,
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
  verify,
} from 'node:crypto'
import { mkdtempSync, readFileSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { makeCertificate } from './certificate.ts'

export const googleKey = 'projects/acme/locations/europe-west3/keyRings/backups/cryptoKeys/holdfast'
export const vaultKey = 'https://acme.vault.azure.net/keys/holdfast/78deebed173b48e48f55abf87ed4cf71'

interface Answer {
  status: number
  body: object
  headers?: Record<string, string>
}

export type RecordedClouds = Awaited<ReturnType<typeof startRecordedClouds>>

const tenantId = '7f58f645-c190-4ce5-9de4-e2b7acd2a6ab'
const clientId = '20be3a2d-3d5a-4d9a-a30a-a5bd1b8a3e9c'

/** `secretPrefix`: what every secret begins with that is handed out or expected here. */
export async function startRecordedClouds(secretPrefix = '') {
  const directory = mkdtempSync(join(tmpdir(), 'holdfast-clouds-'))
  const names = [
    'login.microsoftonline.com',
    '*.vault.azure.net',
    '*.blob.core.windows.net',
    '*.googleapis.com',
  ]
  const { ca, cert, key } = makeCertificate(
    directory,
    'clouds',
    [...names.map(name => `DNS:${name}`), 'IP:127.0.0.1'].join(),
  )
  const secret = () => `${secretPrefix}${randomBytes(18).toString('base64url')}`
  const clientSecret = secret()
  const identityHeader = secret()
  const vault = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const google = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const googleSecret = randomBytes(32)
  const serviceAccount = join(directory, 'service-account.json')
  await writeFile(
    serviceAccount,
    JSON.stringify({
      type: 'service_account',
      project_id: 'acme',
      private_key_id: 'a1',
      private_key: google.privateKey.export({ type: 'pkcs8', format: 'pem' }),
      client_email: 'holdfast@acme.iam.gserviceaccount.com',
      client_id: '1',
      token_uri: 'https://oauth2.googleapis.com/token',
      universe_domain: 'googleapis.com',
    }),
  )
  const seen: string[] = []
  const tokens = new Set<string>()
  const overrides: { matches: (line: string) => boolean; answer: Answer; times: number }[] = []
  let certificate: KeyObject | undefined

  const ways: [RegExp, (request: IncomingMessage, url: URL, body: string) => Answer][] = [
    [
      /^POST login\.microsoftonline\.com\/[^/]+\/oauth2\/v2\.0\/token/,
      (_request, url, body) => {
        const form = new URLSearchParams(body)
        const assertion = form.get('client_assertion')
        const proven =
          form.get('client_secret') === clientSecret ||
          (assertion !== null && certificate !== undefined && isSignedBy(assertion, certificate, 'PS256'))
        if (form.get('client_id') !== clientId || !url.pathname.startsWith(`/${tenantId}/`) || !proven) {
          return {
            status: 401,
            body: {
              error: 'invalid_client',
              // Microsoft repeats none of it; a front that did must not get it into our words.
              error_description: `AADSTS7000215: Invalid client secret provided: ${form.get('client_secret')}.`,
              error_codes: [7000215],
            },
          }
        }
        const audience = (form.get('scope') ?? '').split(' ')[0]?.replace(/\/\.default$/, '') ?? ''
        return { status: 200, body: tokenFor(audience) }
      },
    ],
    [
      /^GET 127\.0\.0\.1\/identity\?/,
      (request, url) =>
        request.headers['x-identity-header'] === identityHeader
          ? { status: 200, body: managedTokenFor(url.searchParams.get('resource') ?? '') }
          : { status: 401, body: { statusCode: 401, message: 'no' } },
    ],
    [
      /^POST acme\.vault\.azure\.net\/keys\/holdfast\/[0-9a-f]{32}\/(un)?wrapkey\?api(-|%2D)version=/,
      (request, url, body) => {
        if (!tokens.has((request.headers.authorization ?? '').replace('Bearer ', ''))) {
          return {
            status: 401,
            body: {
              error: { code: 'Unauthorized', message: 'AKV10000: Request is missing a Bearer or PoP token.' },
            },
            headers: {
              'www-authenticate': `Bearer authorization="https://login.microsoftonline.com/${tenantId}", resource="https://vault.azure.net"`,
            },
          }
        }
        const { alg, value } = JSON.parse(body) as { alg: string; value: string }
        if (alg !== 'RSA-OAEP-256') return azureError(400, 'BadParameter', 'no such algorithm')
        const padding = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' }
        const given = Buffer.from(value, 'base64url')
        try {
          const made = url.pathname.endsWith('/wrapkey')
            ? publicEncrypt({ key: vault.publicKey, ...padding }, given)
            : privateDecrypt({ key: vault.privateKey, ...padding }, given)
          return { status: 200, body: { kid: vaultKey, value: made.toString('base64url') } }
        } catch {
          return azureError(400, 'BadParameter', 'it cannot be decrypted')
        }
      },
    ],
    [
      /^POST cloudkms\.googleapis\.com\/v1\/projects\/acme\/.*:(en|de)crypt/,
      (request, url, body) => {
        const token = (request.headers.authorization ?? '').replace('Bearer ', '')
        if (!isSignedBy(token, google.publicKey, 'RS256'))
          return googleError(401, 'UNAUTHENTICATED', 'no token')
        const { plaintext, ciphertext, additionalAuthenticatedData } = JSON.parse(body) as Record<
          string,
          string
        >
        const aad = Buffer.from(additionalAuthenticatedData ?? '', 'base64')
        if (url.pathname.endsWith(':encrypt')) {
          const iv = randomBytes(12)
          const cipher = createCipheriv('aes-256-gcm', googleSecret, iv).setAAD(aad)
          const made = [iv, cipher.update(plaintext ?? '', 'base64'), cipher.final(), cipher.getAuthTag()]
          const sent = Buffer.concat(made).toString('base64')
          return { status: 200, body: { name: `${googleKey}/cryptoKeyVersions/1`, ciphertext: sent } }
        }
        try {
          const given = Buffer.from(ciphertext ?? '', 'base64')
          const decipher = createDecipheriv('aes-256-gcm', googleSecret, given.subarray(0, 12)).setAAD(aad)
          decipher.setAuthTag(given.subarray(-16))
          const made = [decipher.update(given.subarray(12, -16)), decipher.final()]
          return {
            status: 200,
            body: { plaintext: Buffer.concat(made).toString('base64'), usedPrimary: true },
          }
        } catch {
          return googleError(400, 'INVALID_ARGUMENT', 'Decryption failed: the ciphertext is invalid.')
        }
      },
    ],
  ]

  /** As Entra ID's: nobody here checks its signature. */
  function tokenFor(audience: string) {
    const now = Math.floor(Date.now() / 1000)
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const claims = {
      aud: audience,
      iss: `https://sts.windows.net/${tenantId}/`,
      iat: now,
      nbf: now - 60,
      exp: now + 3600,
    }
    const token = `${part({ typ: 'JWT', alg: 'RS256' })}.${part({ ...claims, appid: clientId })}.${secret()}`
    tokens.add(token)
    return { token_type: 'Bearer', expires_in: 3600, ext_expires_in: 3600, access_token: token }
  }
  function managedTokenFor(resource: string) {
    const { access_token } = tokenFor(resource)
    const expires = Math.floor(Date.now() / 1000) + 3600
    return { access_token, expires_on: String(expires), resource, token_type: 'Bearer', client_id: clientId }
  }

  const server = createServer(
    { cert: readFileSync(cert), key: readFileSync(key) },
    async (request, response) => {
      const host = (request.headers.host ?? '').replace(/:\d+$/, '')
      const url = new URL(`https://${host}${request.url}`)
      const line = `${request.method} ${host}${request.url}`
      const body = await text(request)
      seen.push(line)
      const override = overrides.find(one => one.times > 0 && one.matches(line))
      if (override) override.times -= 1
      const way = ways.find(([pattern]) => pattern.test(line))
      const answer = override?.answer ??
        way?.[1](request, url, body) ?? { status: 404, body: { error: `nothing at ${line}` } }
      response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers })
      response.end(JSON.stringify(answer.body))
    },
  )
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  /** Of a Node program that is to be led here. */
  const led = {
    NODE_OPTIONS: `--import ${join(import.meta.dirname, '../support/reroute-child.ts')}`,
    NODE_EXTRA_CA_CERTS: ca,
    RECORDED_CLOUDS_PORT: String(port),
  }
  const azure = { AZURE_TENANT_ID: tenantId, AZURE_CLIENT_ID: clientId, AZURE_CLIENT_SECRET: clientSecret }
  return {
    port,
    ca,
    cert,
    key,
    led,
    /** Credentials as the services' own tools find them in the environment. */
    azure,
    google: { GOOGLE_APPLICATION_CREDENTIALS: serviceAccount },
    /** A machine of Azure: an address that gives tokens to whoever has the header. */
    managed: { IDENTITY_ENDPOINT: `https://127.0.0.1:${port}/identity`, IDENTITY_HEADER: identityHeader },
    /** Takes an application's certificate. */
    trust(pem: string) {
      certificate = createPublicKey(pem)
    },
    /** "POST host/path" of every request. */
    seen,
    /** Answers the next requests that match. */
    answer(pattern: RegExp, status: number, body: object, times = 1, headers?: Record<string, string>) {
      overrides.push({
        matches: line => pattern.test(line),
        answer: { status, body, ...(headers ? { headers } : {}) },
        times,
      })
    },
    answerAsEver() {
      overrides.length = 0
    },
    async stop() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
      await rm(directory, { recursive: true, force: true })
    },
  }
}

const azureError = (status: number, code: string, message: string): Answer => ({
  status,
  body: { error: { code, message } },
})
const googleError = (code: number, status: string, message: string): Answer => ({
  status: code,
  body: { error: { code, status, message } },
})

function isSignedBy(jwt: string, key: KeyObject, algorithm: 'RS256' | 'PS256'): boolean {
  const [header, claims, signature] = jwt.split('.')
  if (!header || !claims || !signature) return false
  const signed = Buffer.from(`${header}.${claims}`)
  const padding =
    algorithm === 'RS256'
      ? { key }
      : { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
  return verify('sha256', signed, padding, Buffer.from(signature, 'base64url'))
}
