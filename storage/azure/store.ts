/** The way to one container: the client, calls with our tries and errors, and the full names. */
import type { TokenCredential } from '@azure/identity'
import {
  AnonymousCredential,
  type BlockBlobClient,
  type BlockBlobUploadOptions,
  ContainerClient,
  newPipeline,
  StorageSharedKeyCredential,
} from '@azure/storage-blob'
import { HoldfastError } from '../../model/errors.ts'
import { lockEnd } from '../../model/keeping.ts'
import type { CallOptions } from '../destination.ts'
import { entraTokens, type ServicePrincipal } from '../entra.ts'
import { tryCalls } from '../retry-calls.ts'
import { answered } from '../silence.ts'
import { storeError } from './errors.ts'
import { type AzureSettings, credentialOf } from './form.ts'

/** What an object is written with, beside its bytes. */
export type WrittenWith = Pick<
  BlockBlobUploadOptions,
  'metadata' | 'tags' | 'encryptionScope' | 'immutabilityPolicy' | 'legalHold' | 'tier'
>

export interface Store {
  /** Without credentials. */
  uri: string
  silenceSeconds: number
  /** By what it is: anything (an upload's record among it), an object, one that belongs to a backup, an artifact. */
  written: { ours: WrittenWith; any: WrittenWith; lasting(): WrittenWith; artifact(): WrittenWith }
  /** Objects are locked or held. */
  protects: boolean
  /** Of artifacts, where the destination names one. */
  storageClass: string | undefined
  container: ContainerClient
  blob(key: string): BlockBlobClient
  fullKey(key: string): string
  /** undefined for names outside our prefix. */
  ownKey(name: string): string | undefined
  /**
   * Runs one request, up to four times while its error passes by itself, and translates that. The number of the try is
   * given to it. Rethrows the signal's reason when it was aborted. `bytes` are sent: a slow line is given time for them.
   */
  call<T>(
    action: Action,
    key: string,
    options: CallOptions,
    request: (abortSignal: AbortSignal, attempt: number) => Promise<T>,
    bytes?: number,
  ): Promise<T>
  /** What `call` does to an error, for streams. */
  explain(action: Action, key: string, error: unknown): unknown
}

/** Azure's operations we use, and the permission of a signature that each needs. */
const permissions = {
  'Put Blob': 'w (write)',
  'Put Block': 'w (write)',
  'Put Block List': 'w (write)',
  'Get Block List': 'r (read)',
  'Get Blob': 'r (read)',
  'Get Blob Properties': 'r (read)',
  'List Blobs': 'l (list)',
  'Delete Blob': 'd (delete)',
  'Set Blob Tier': 'w (write)',
  'Get Container Properties': 'r (read)',
  'Delete Blob Immutability Policy': 'i (immutable storage)',
  'Set Blob Legal Hold': 'i (immutable storage)',
} as const
type Action = keyof typeof permissions

export function openStore(
  uri: string,
  settings: AzureSettings,
  secrets: Record<string, string>,
  silenceSeconds: number,
): Store {
  const match = /^azure:\/\/([^/]+)(?:\/(.+))?$/.exec(uri)
  const name = match?.[1]
  if (!name)
    throw new HoldfastError('request.invalid', 'The destination URI is not azure://container/prefix.')
  const base = match[2] === undefined ? '' : `${match[2]}/`
  const credential = credentialOf(secrets) ?? credentialOf(fromEnvironment(settings.account))
  const endpoint = settings.endpoint ?? `https://${settings.account}.blob.core.windows.net`
  // Where a token may go, the chain of the platform is asked for one when it is needed.
  if (credential === undefined && !endpoint.startsWith('https:')) {
    throw new HoldfastError(
      'destination.denied',
      `Opening ${uri}: there are no credentials for account ${settings.account}.`,
      {
        hint: 'Give accountKey, sasToken or connectionString, or set AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN.',
      },
    )
  }
  if (credential?.account !== undefined && credential.account !== settings.account) {
    throw new HoldfastError(
      'request.invalid',
      `The credentials of ${uri} are those of account ${credential.account}, not of ${settings.account}.`,
      { context: { field: 'connectionString' } },
    )
  }
  const { accountKey, sasToken, principal } = credential ?? {}
  if (principal !== undefined && !endpoint.startsWith('https:')) {
    throw new HoldfastError(
      'request.invalid',
      `The endpoint of ${uri} is not https, and no token goes over plain HTTP.`,
      { context: { field: 'endpoint' } },
    )
  }
  const login = accountKey === undefined && sasToken === undefined
  const hidden = [accountKey, sasToken, ...(sasToken === undefined ? [] : [signatureIn(sasToken)])]
  const container = new ContainerClient(
    `${endpoint}/${name}${sasToken === undefined ? '' : `?${sasToken}`}`,
    newPipeline(
      login
        ? tokensFor(uri, principal, token => hidden.push(token))
        : accountKey === undefined
          ? new AnonymousCredential()
          : new StorageSharedKeyCredential(settings.account, accountKey),
      // `call` tries again; it wants to know of every try.
      { retryOptions: { maxTries: 1 }, keepAliveOptions: { enable: true } },
    ),
  )
  const doing = (action: Action, key: string) => `${action} on ${uri}${key === '' ? '' : `/${key}`}`
  const explain = (action: Action, key: string, error: unknown) =>
    storeError(error, {
      doing: doing(action, key),
      permission: `${permissions[action]}${login ? ', which the role Storage Blob Data Contributor has' : ''}`,
      secrets: hidden.filter(secret => secret !== undefined && secret !== '') as string[],
    })

  return {
    uri,
    silenceSeconds,
    written: writtenWith(settings),
    protects: settings.objectLock !== undefined || settings.legalHold === true,
    storageClass: settings.storageClass,
    container,
    blob: key => container.getBlockBlobClient(`${base}${key}`),
    fullKey: key => `${base}${key}`,
    ownKey: full => (full.startsWith(base) ? full.slice(base.length) : undefined),
    call: (action, key, { signal }, request, bytes = 0) =>
      tryCalls(signal, attempt =>
        answered(
          { doing: doing(action, key), silenceSeconds, bytes, signal },
          stopped => request(stopped, attempt),
          error => explain(action, key, error),
        ),
      ),
    explain,
  }
}

function writtenWith(settings: AzureSettings): Store['written'] {
  const { storageClass, encryptionScope, tags, metadata, objectLock, legalHold } = settings
  const ours: WrittenWith = encryptionScope === undefined ? {} : { encryptionScope }
  const any: WrittenWith = {
    ...ours,
    ...(tags === undefined ? {} : { tags }),
    ...(metadata === undefined ? {} : { metadata }),
  }
  const lasting = (): WrittenWith => ({
    ...any,
    // Counted from each object's own beginning.
    ...(objectLock === undefined
      ? {}
      : {
          immutabilityPolicy: {
            expiriesOn: lockEnd(objectLock),
            policyMode: objectLock.mode === 'governance' ? 'Unlocked' : 'Locked',
          },
        }),
    ...(legalHold === true ? { legalHold } : {}),
  })
  return {
    ours,
    any,
    lasting,
    artifact: () => ({ ...lasting(), ...(storageClass === undefined ? {} : { tier: storageClass }) }),
  }
}

/** Of the application, else as Azure's own tools find a login. */
function tokensFor(
  uri: string,
  principal: ServicePrincipal | undefined,
  used: (token: string) => void,
): TokenCredential {
  const tokens = entraTokens(principal, (why, said) =>
    why === 'unreachable'
      ? new HoldfastError('destination.unreachable', `Getting a token for ${uri} failed: ${said}.`)
      : new HoldfastError('destination.denied', `Getting a token for ${uri} failed: ${said}.`, {
          hint:
            principal === undefined
              ? 'Give accountKey, sasToken, connectionString or a service principal, or run where Azure has a login (AZURE_CLIENT_ID and its like, managed identity).'
              : 'Microsoft Entra ID does not take this login: give a fresh one.',
        }),
  )
  return {
    async getToken(scopes, options) {
      const token = await tokens.getToken(scopes, options)
      if (token !== null) used(token.token)
      return token
    },
  }
}

const signatureIn = (sasToken: string) => new URLSearchParams(sasToken).get('sig') ?? undefined

/** As Azure's own command line finds them; a connection string counts when it is this account's. */
function fromEnvironment(account: string): Record<string, string> {
  const { AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_CONNECTION_STRING } = process.env
  if (AZURE_STORAGE_CONNECTION_STRING) {
    const found = credentialOf({ connectionString: AZURE_STORAGE_CONNECTION_STRING })
    if (found?.account === account) return { connectionString: AZURE_STORAGE_CONNECTION_STRING }
  }
  if (AZURE_STORAGE_KEY) return { accountKey: AZURE_STORAGE_KEY }
  return AZURE_STORAGE_SAS_TOKEN ? { sasToken: AZURE_STORAGE_SAS_TOKEN } : {}
}
