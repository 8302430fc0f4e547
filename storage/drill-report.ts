/** Signing and checking reports of drills. */

import {
  type DrillReport,
  drillReportSchema,
  type SignedDrillReport,
  signedDrillReportSchema,
} from '../model/drill-report.ts'
import { HoldfastError } from '../model/errors.ts'
import { canonical } from '../model/manifest.ts'
import { type Jwk, thumbprint } from './keys.ts'
import { signText, whyNotSigned } from './signature.ts'

const typ = 'holdfast-drill'

export async function signDrillReport(report: DrillReport, signingKey: Jwk): Promise<SignedDrillReport> {
  const whole = drillReportSchema.parse(report)
  const signature = await signText(canonical(whole), { kid: whole.installationId, typ }, signingKey)
  return { ...whole, signature }
}

/**
 * `fingerprint`: what is known of the installation from elsewhere. Throws `manifest.invalid` for what is no report, and
 * `manifest.forged` when that key did not sign exactly this.
 */
export async function verifyDrillReport(document: unknown, fingerprint: string): Promise<DrillReport> {
  const parsed = signedDrillReportSchema.safeParse(document)
  if (!parsed.success) throw new HoldfastError('manifest.invalid', 'It is not the report of a drill.')
  const { signature, ...report } = parsed.data
  // What is checked is the document as it was read, not what the schema made of it.
  const { signature: _, ...asRead } = document as Record<string, unknown>
  const forged = (why: string) =>
    new HoldfastError('manifest.forged', `Checking the report of drill ${report.drill}: ${why}.`)
  if ((await thumbprint(report.publicKey)) !== fingerprint) {
    throw forged(`it was signed by another key than the one with the fingerprint ${fingerprint}`)
  }
  const header = { kid: report.installationId, typ }
  const why = await whyNotSigned(signature, canonical(asRead), header, report.publicKey)
  if (why !== undefined) throw forged(why)
  return report
}
