/** Accepting a sweep, and what it is to go over. */
import { readOwnDestination } from '../catalog/destinations.ts'
import { planSweep as placesOf } from '../catalog/sweeps.ts'
import { machineOf, sweepWorkflowId } from '../model/ids.ts'
import type { SweepRequestInput } from '../model/inputs.ts'
import type { OperationRecord, SweepInput, SweepPlan } from '../model/records.ts'
import type { ApiContext } from './context.ts'
import { newOperation, newOperationId, patienceOf } from './submit.ts'
import { isPolling } from './temporal.ts'

export async function newSweep(
  context: ApiContext,
  request: SweepRequestInput,
  operationId = newOperationId(),
): Promise<OperationRecord> {
  const destination =
    request.destination === undefined
      ? null
      : (await readOwnDestination(context.catalog, request.destination)).name
  const dryRun = request.dryRun ?? false
  const input: SweepInput = {
    version: 1,
    operationId,
    destination,
    unknown: request.unknown ?? false,
    dryRun,
    ...patienceOf(context, request),
  }
  return {
    ...newOperation(),
    id: operationId,
    kind: 'sweep',
    connection: null,
    engine: null,
    backupId: null,
    destination,
    targetDatabase: null,
    workflowId: sweepWorkflowId(destination),
    input,
    warnings: [],
    createdAt: new Date().toISOString(),
  }
}

/** Machines are those whose workers ask for work now: who is away sweeps its own staging when it is back. */
export async function planSweep(context: ApiContext, operationId: string): Promise<SweepPlan> {
  const places = await placesOf(context.catalog, operationId)
  if (places.only) return { destinations: places.destinations, hosts: [], machines: [] }
  const pollers = await context.temporal.pollers()
  const machines = pollers.filter(isPolling).flatMap(({ identity }) => machineOf(identity) ?? [])
  return { destinations: places.destinations, hosts: places.hosts, machines: [...new Set(machines)].sort() }
}
