/** The last rehearsal of a database's restore, on the status screen. */
import { findBackup } from '../../catalog/backups.ts'
import { listDrills } from '../../catalog/drills.ts'
import type { Catalog } from '../../catalog/open.ts'
import { readOperation } from '../../catalog/operations.ts'
import type { DrillSummary, StatusProblem } from '../../model/views.ts'
import { drillSummaryOf } from '../views.ts'

/** Drills under way are among the operations. */
export async function lastDrill(catalog: Catalog, connection: string): Promise<DrillSummary | undefined> {
  const [drill] = await listDrills(catalog, { connection, ended: true }, undefined, 1)
  if (!drill) return undefined
  const operation = await readOperation(catalog, drill.operationId)
  const backup = operation.backupId === null ? undefined : await findBackup(catalog, operation.backupId)
  return drillSummaryOf(drill, operation, backup)
}

/** One that was cancelled has shown nothing, and alarms nobody. */
export function drillProblems(drill: DrillSummary | undefined): StatusProblem[] {
  if (drill?.verdict !== 'failed') return []
  const { code, detail, hint } = drill.error ?? {
    code: 'drill.check-failed',
    detail: 'It does not say why.',
    hint: 'See its report.',
  }
  return [
    {
      level: 'critical',
      code,
      detail: `The last drill failed: backup ${drill.backup} could not be restored as it has to be. ${detail}`,
      hint,
      command: `holdfast drill report ${drill.id}`,
    },
  ]
}
