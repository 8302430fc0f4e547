/** What is known of stores that speak S3, by the host of their endpoint. What a destination says itself goes before it. */

export interface ProviderLimits {
  name: string
  /** All parts but the last must have the same size. */
  equalParts: boolean
  maxParts: number
  /** If-None-Match is honoured. Where it is not known to be missing, the first refusal or the check finds out. */
  conditionalPut: boolean
}

const usual = { equalParts: false, maxParts: 10_000, conditionalPut: true }

const providers: readonly (ProviderLimits & { host: RegExp })[] = [
  { ...usual, name: 'AWS', host: /(^|\.)amazonaws\.com(\.cn)?$/ },
  { ...usual, name: 'R2', host: /\.r2\.cloudflarestorage\.com$/, equalParts: true },
  { ...usual, name: 'B2', host: /\.backblazeb2\.com$/, conditionalPut: false },
  { ...usual, name: 'Wasabi', host: /(^|\.)wasabisys\.com$/ },
  { ...usual, name: 'Scaleway', host: /\.scw\.cloud$/, maxParts: 1_000 },
]

/** Without an endpoint it is AWS; a host that nobody knows is taken for one that does as AWS does. */
export function providerAt(endpoint: string | undefined): ProviderLimits {
  const host = endpoint === undefined ? 'amazonaws.com' : new URL(endpoint).hostname
  return providers.find(one => one.host.test(host)) ?? { ...usual, name: 'S3' }
}
