import { sleep } from '@temporalio/workflow'
import type { RetireInput } from '../model/records.ts'
import { servedBy } from './machine.ts'
import { patient } from './steps.ts'

/** Removes what a swap has kept of the old database, when its time is over. Takes no lock: nobody else uses it. */
export async function retire(input: RetireInput): Promise<void> {
  servedBy(input.hostWorker)
  for (;;) {
    const seconds = await patient.keptFor(input.operationId)
    if (seconds === null) return
    if (seconds > 0) await sleep(seconds * 1000)
    else await patient.dropKept(input.operationId)
  }
}
