/**
 * Signing and trusting manifests. The signature is a compact JWS (EdDSA) with detached payload over the canonical JSON of
 * the manifest without its `signature`; header {alg, kid: the installation's id, typ}.
 */
import { HoldfastError } from '../model/errors.ts'
import {
  canonical,
  type Manifest,
  manifestSchema,
  type SignedManifest,
  signedManifestSchema,
} from '../model/manifest.ts'
import type { Jwk } from './keys.ts'
import { signText, whyNotSigned } from './signature.ts'

const typ = 'holdfast-manifest'

/** `signingKey`: the installation's Ed25519 private key. Throws `manifest.invalid` for what is not a manifest. */
export async function signManifest(manifest: Manifest, signingKey: Jwk): Promise<SignedManifest> {
  const whole = manifestSchema.safeParse(manifest)
  if (!whole.success) throw invalid('Signing a manifest', whole.error.issues)
  const header = { kid: manifest.installationId, typ }
  return { ...whole.data, signature: await signText(canonical(whole.data), header, signingKey) }
}

/** The document has the form of a signed manifest; says nothing about who signed it. Throws `manifest.invalid`. */
export function parseSigned(document: unknown, where: string): SignedManifest {
  const parsed = signedManifestSchema.safeParse(document)
  if (!parsed.success) throw invalid(`Reading ${where}`, parsed.error.issues)
  return parsed.data
}

/**
 * Throws `manifest.invalid` when it is not a manifest of ours (unknown fields included) and `manifest.forged` when no trusted
 * installation signed exactly this. `trusted`: Ed25519 public keys by installation id.
 */
export async function verifyManifest(signed: unknown, trusted: Record<string, Jwk>): Promise<Manifest> {
  const { signature, ...manifest } = parseSigned(signed, 'a manifest')
  const what = `Checking the manifest of backup ${manifest.backupId}`
  const publicKey = Object.hasOwn(trusted, manifest.installationId)
    ? trusted[manifest.installationId]
    : undefined
  if (publicKey === undefined) {
    throw new HoldfastError(
      'manifest.forged',
      `${what}: installation ${manifest.installationId} is not among the trusted ones.`,
    )
  }
  // What is checked is the document as it was read, not what the schema made of it.
  const { signature: _, ...asRead } = signed as Record<string, unknown>
  const header = { kid: manifest.installationId, typ }
  const why = await whyNotSigned(signature, canonical(asRead), header, publicKey)
  if (why !== undefined) throw new HoldfastError('manifest.forged', `${what}: ${why}.`)
  requireSound(manifest)
  return manifest
}

/** What the schema cannot say: every object lies in the attempt's folder and artifacts are told apart by name. */
function requireSound({ artifacts, attemptId, backupId }: Manifest): void {
  const names = new Set(artifacts.map(artifact => artifact.name))
  const inAttempt = artifacts.every(
    ({ object }) =>
      object.startsWith(`${attemptId}/`) && !object.split('/').some(part => ['', '.', '..'].includes(part)),
  )
  if (names.size === artifacts.length && inAttempt) return
  throw new HoldfastError(
    'manifest.invalid',
    `Checking the manifest of backup ${backupId}: its artifacts are not distinct objects of attempt ${attemptId}.`,
  )
}

function invalid(what: string, issues: readonly { path: PropertyKey[]; message: string }[]): HoldfastError {
  const first = issues[0]
  const where = first === undefined || first.path.length === 0 ? '' : `${first.path.join('.')}: `
  return new HoldfastError('manifest.invalid', `${what}: ${where}${first?.message ?? 'not a manifest'}.`)
}
