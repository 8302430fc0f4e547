import { proxyActivities } from '@temporalio/workflow'
import type { Activities } from '../activities/index.ts'
import type { HostQuestionInput } from '../model/records.ts'
import type { Json } from '../model/types.ts'

/** A question that only the worker of a host can answer, asked by the API while somebody waits. Takes no lock. */
export async function askHost({ worker, question }: HostQuestionInput): Promise<Json> {
  const { answerHost } = proxyActivities<Activities>({
    taskQueue: worker.queue,
    scheduleToStartTimeout: '10s',
    startToCloseTimeout: '90s',
    heartbeatTimeout: '10s',
    // Asked again it would make another place of the same name in the log.
    retry: { initialInterval: '500ms', maximumAttempts: question.ask === 'restore-point' ? 1 : 3 },
  })
  return await answerHost(question)
}
