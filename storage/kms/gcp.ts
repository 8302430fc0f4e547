/** Google Cloud KMS by its JSON API, with Google's library for tokens: symmetric keys. */
import { GoogleAuth } from 'google-auth-library'
import { HoldfastError } from '../../model/errors.ts'
import { type Kms, purpose } from './kms.ts'
import { type Answer, bytesOf, post } from './request.ts'

const keyName = /^projects\/[^/]+\/locations\/[^/]+\/keyRings\/[^/]+\/cryptoKeys\/[^/]+$/

/** How a test asks an address of its own. */
export interface Way {
  endpoint: string
  token(): Promise<string>
}

export function gcpKms(key: string, way: Way = google()): Kms {
  if (!keyName.test(key)) {
    throw new HoldfastError(
      'key.invalid',
      `Using Google Cloud KMS: "${key.slice(0, 200)}" is not the name of a key (projects/P/locations/L/keyRings/R/cryptoKeys/K; no version).`,
    )
  }
  const additionalAuthenticatedData = Buffer.from(JSON.stringify(purpose)).toString('base64')
  const path = key.split('/').map(encodeURIComponent).join('/')
  return {
    async encrypt(plain) {
      const what = `Encrypting with Google's key ${key}`
      const plaintext = Buffer.from(plain).toString('base64')
      const document = { plaintext, additionalAuthenticatedData }
      const url = `${way.endpoint}/v1/${path}:encrypt`
      const { ciphertext } = await post(what, url, way.token, document, disabled)
      return bytesOf(what, ciphertext, 'base64')
    },
    async decrypt(encrypted) {
      const what = `Decrypting with Google's key ${key}`
      const ciphertext = Buffer.from(encrypted).toString('base64')
      const document = { ciphertext, additionalAuthenticatedData }
      const url = `${way.endpoint}/v1/${path}:decrypt`
      const { plaintext } = await post(
        what,
        url,
        way.token,
        document,
        answer => disabled(answer) ?? (answer.status === 400 ? 'artifact.corrupted' : undefined),
      )
      return bytesOf(what, plaintext, 'base64')
    },
  }
}

const disabled = ({ body }: Answer) =>
  (body as { error?: { status?: unknown } }).error?.status === 'FAILED_PRECONDITION'
    ? ('key.kms-unusable' as const)
    : undefined

function google(): Way {
  const auth = new GoogleAuth({ scopes: ['https://www.googleapis.com/auth/cloudkms'] })
  return {
    endpoint: 'https://cloudkms.googleapis.com',
    async token() {
      const token = await auth.getAccessToken()
      if (!token) throw new Error('the default credentials give none')
      return token
    },
  }
}
