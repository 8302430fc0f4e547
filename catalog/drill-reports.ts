/** Writes the report of a drill that has ended, once, from what the catalog was told: asked again, what was written stays. */
import { drillReportOf } from '../model/drill-report.ts'
import { HoldfastError } from '../model/errors.ts'
import { signDrillReport } from '../storage/drill-report.ts'
import { thumbprint } from '../storage/keys.ts'
import { findBackup } from './backups.ts'
import { findDrill, keepReport } from './drills.ts'
import { installationKeys } from './installation.ts'
import type { Catalog } from './open.ts'
import { isClosed, readOperation } from './operations.ts'

export async function writeDrillReport(catalog: Catalog, operationId: string): Promise<void> {
  const operation = await readOperation(catalog, operationId)
  const drill = await findDrill(catalog, operationId)
  if (!drill || drill.report) return
  if (!isClosed(operation.state)) {
    throw new HoldfastError('drill.no-report', `Drill ${operationId} has not ended yet.`)
  }
  const backup = operation.backupId === null ? undefined : await findBackup(catalog, operation.backupId)
  if (!backup) throw new HoldfastError('backup.not-found', `The backup of drill ${operationId} is gone.`)
  const { installationId, publicKey, signingKey } = await installationKeys(catalog)
  const by = { installationId, publicKey, fingerprint: await thumbprint(publicKey) }
  const report = drillReportOf(by, operation, backup, drill)
  await keepReport(catalog, operationId, await signDrillReport(report, signingKey))
}
