import { proxyActivities } from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import type { Notification } from '../activities/notify.ts'

/** Waits for a worker; the program is tried a few times. */
const { notify } = proxyActivities<Activities>({
  startToCloseTimeout: '1m',
  heartbeatTimeout: '10s',
  retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '30s', maximumAttempts: 3 },
})

/** Tells the program of the operator's choice what no operation is about. */
export async function tellSomebody(notification: Notification): Promise<void> {
  await notify(notification)
}
