/**
 * Keys that never leave a key management service: it encrypts and decrypts 32 bytes for us, and data keys are wrapped with
 * those. Credentials are those of the process, found as each service's own tools find them.
 */
import type { KmsKey } from '../../model/manifest.ts'
import type { Kms } from './kms.ts'

/** One service each; its library is loaded when a key of it is used. */
const services: { [Service in KmsKey['service']]: (key: string) => Promise<Kms> } = {
  'aws-kms': async key => (await import('./aws.ts')).awsKms(key),
  'gcp-kms': async key => (await import('./gcp.ts')).gcpKms(key),
  'azure-key-vault': async key => (await import('./azure.ts')).azureKey(key),
}

export const openKms = ({ service, key }: KmsKey): Promise<Kms> => services[service](key)
