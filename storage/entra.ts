/** Tokens of Microsoft Entra ID by Azure's own library, which is loaded when the first one is asked for. */
import type { AccessToken, DefaultAzureCredentialOptions, TokenCredential } from '@azure/identity'
import type { HoldfastError } from '../model/errors.ts'
import { untilAborted } from './until-aborted.ts'

/** An application's own login. `clientCertificate`: PEM with its private key. */
export interface ServicePrincipal {
  tenantId: string
  clientId: string
  proof: { clientSecret: string } | { clientCertificate: string }
}

/** Why there is no token: refused or not found, or nobody answers. `said` holds no secret. */
export type NoToken = (why: 'denied' | 'unreachable', said: string) => HoldfastError

/** The library does not pass the signal on everywhere; nobody waits longer than this. */
const answerMs = 15_000

/** Without a principal: as Azure's own tools find one (environment, workload and managed identity, their own login). */
export function entraTokens(principal: ServicePrincipal | undefined, noToken: NoToken): TokenCredential {
  let opening: Promise<Opened> | undefined
  return {
    async getToken(scopes, options = {}): Promise<AccessToken> {
      const signals = [AbortSignal.timeout(answerMs), options.abortSignal as AbortSignal | undefined]
      const bounded = AbortSignal.any(signals.filter(signal => signal !== undefined))
      opening ??= openCredential(principal)
      const { credential, asked } = await opening
      try {
        const token = await untilAborted(bounded, credential.getToken(scopes, options))
        if (token !== null) return token
      } catch (error) {
        // A chain that found nothing may find something the next time.
        opening = undefined
        if (bounded.aborted) throw noToken('unreachable', 'Microsoft Entra ID does not answer')
        throw refusal(error, principal, asked, noToken)
      }
      throw noToken('denied', 'Microsoft Entra ID gives none')
    },
  }
}

interface Opened {
  credential: TokenCredential
  /** What it has asked anybody, and whether somebody has refused. */
  asked: { any: boolean; refused: boolean }
}

async function openCredential(principal: ServicePrincipal | undefined): Promise<Opened> {
  const { ClientCertificateCredential, ClientSecretCredential, DefaultAzureCredential } = await import(
    '@azure/identity'
  )
  const asked = { any: false, refused: false }
  // The library's errors do not say whether somebody refused or nobody answered.
  const policy: NonNullable<DefaultAzureCredentialOptions['additionalPolicies']>[number]['policy'] = {
    name: 'holdfastAnswers',
    async sendRequest(request, next) {
      asked.any = true
      const answer = await next(request)
      asked.refused ||= answer.status >= 400 && answer.status < 500 && ![408, 429].includes(answer.status)
      return answer
    },
  }
  const options: DefaultAzureCredentialOptions = {
    // Whoever wants the token tries again.
    retryOptions: { maxRetries: 1 },
    additionalPolicies: [{ policy, position: 'perCall' }],
  }
  if (principal === undefined) return { credential: new DefaultAzureCredential(options), asked }
  const { tenantId, clientId, proof } = principal
  const credential =
    'clientSecret' in proof
      ? new ClientSecretCredential(tenantId, clientId, proof.clientSecret, options)
      : new ClientCertificateCredential(tenantId, clientId, { certificate: proof.clientCertificate }, options)
  return { credential, asked }
}

function refusal(
  error: unknown,
  principal: ServicePrincipal | undefined,
  asked: Opened['asked'],
  noToken: NoToken,
): HoldfastError {
  const telling = tellingOf(error)
  if (telling === undefined) {
    return noToken(
      'denied',
      'there is no login in the environment, no workload or managed identity, and none of the Azure CLI',
    )
  }
  if (asked.any && !asked.refused) return noToken('unreachable', 'Microsoft Entra ID does not answer')
  const message = telling instanceof Error ? telling.message : String(telling)
  const said = /AADSTS\d+:.*?(?= - Correlation ID| Trace ID|\n|$)/.exec(message)?.[0] ?? message
  const secrets = [
    process.env.AZURE_CLIENT_SECRET,
    ...(principal && 'clientSecret' in principal.proof ? [principal.proof.clientSecret] : []),
  ].filter(secret => secret !== undefined && secret !== '') as string[]
  const shown = secrets.reduce((text, secret) => text.replaceAll(secret, '***'), said)
  return noToken('denied', (shown.split('\n', 1)[0] ?? '').slice(0, 300).replace(/[.\s]+$/, ''))
}

/** A chain's error holds those of its links: undefined where each of them only has nothing to offer. */
function tellingOf(error: unknown): unknown {
  const links = (error as { errors?: unknown } | null)?.errors
  const missing = (one: unknown) => one instanceof Error && one.name === 'CredentialUnavailableError'
  if (Array.isArray(links)) return links.find(one => !missing(one))
  return missing(error) ? undefined : error
}
