/**
 * Workflows that run while Holdfast is updated are replayed by the new code. Histories of real runs
 * (`npm run histories`) must still be what today's workflows do.
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import {
  DefaultLogger,
  makeTelemetryFilterString,
  Runtime,
  Worker,
  type WorkflowBundle,
} from '@temporalio/worker'
import { DeterminismViolationError } from '@temporalio/workflow'
import { bundleWorkflows } from '../../activities/worker.ts'

interface Event {
  eventType: string
  activityTaskStartedEventAttributes?: { attempt?: number }
  activityTaskScheduledEventAttributes?: { activityType: { name: string } }
}
interface History {
  events: Event[]
}

// What does not replay is said by what is thrown.
Runtime.install({
  logger: new DefaultLogger('ERROR'),
  telemetryOptions: { logging: { filter: makeTelemetryFilterString({ core: 'ERROR', other: 'ERROR' }) } },
})

const folder = join(import.meta.dirname, '../histories')
const names = readdirSync(folder).map(file => file.replace(/\.json$/, ''))
const read = (name: string) => JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as History

describe('histories of real runs', () => {
  let workflowBundle: WorkflowBundle
  before(async () => {
    workflowBundle = await bundleWorkflows()
  })
  const replay = (history: History) => Worker.runReplayHistory({ workflowBundle }, history)

  test('there is one for each way an operation can go', () => {
    assert.deepEqual(names.sort(), [
      'archive-logs',
      'backup-canary',
      'backup-cancelled',
      'backup-failed',
      'backup-parked',
      'backup-partial',
      'backup-paused',
      'backup-staged',
      'backup-staged-worker-killed',
      'backup-streamed',
      'copy',
      'drill',
      'drill-failed',
      'drill-moment',
      'enable-pitr',
      'host-worker-backup',
      'host-worker-parked',
      'host-worker-restore',
      'pitr',
      'request',
      'request-rejected',
      'restore',
      'restore-failed',
      'retire',
      'rotate-keys',
      'scrub',
      'swap-postgresql',
      'swap-sqlite',
      'sweep',
      'take-back',
      'tiering',
      'verify',
    ])
    const types = (name: string) => new Set(read(name).events.map(event => event.eventType))
    assert.ok(types('backup-cancelled').has('EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED'))
    assert.ok(types('backup-failed').has('EVENT_TYPE_WORKFLOW_EXECUTION_FAILED'))
    assert.ok(types('drill-failed').has('EVENT_TYPE_WORKFLOW_EXECUTION_FAILED'))
    assert.ok(types('restore-failed').has('EVENT_TYPE_WORKFLOW_EXECUTION_FAILED'))
    assert.ok(types('request-rejected').has('EVENT_TYPE_WORKFLOW_EXECUTION_FAILED'))
    assert.ok(types('request').has('EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED'))
    const steps = (name: string) =>
      read(name).events.flatMap(event => event.activityTaskScheduledEventAttributes?.activityType.name ?? [])
    for (const step of ['useApproval', 'swapStep', 'recordKept']) {
      assert.ok(steps('swap-postgresql').includes(step) && steps('swap-sqlite').includes(step), step)
    }
    assert.ok(steps('swap-sqlite').includes('openPart'))
    assert.ok(steps('pitr').includes('replay') && steps('drill-moment').includes('replay'))
    assert.ok(steps('backup-canary').includes('writeCanary'))
    assert.ok(steps('retire').includes('dropKept'))
    for (const name of [
      'backup-canary',
      'backup-streamed',
      'backup-staged',
      'backup-staged-worker-killed',
      'backup-parked',
      'backup-paused',
      'drill',
      'drill-moment',
      'pitr',
      'enable-pitr',
      'request',
      'restore',
      'retire',
      'scrub',
      'swap-postgresql',
      'swap-sqlite',
      'tiering',
      'verify',
    ]) {
      assert.ok(types(name).has('EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED'), name)
    }
  })

  for (const name of names) {
    test(`${name} replays`, async () => {
      await replay(read(name))
    })
  }

  test('a workflow that does other things is found out', async () => {
    for (const name of [
      'backup-streamed',
      'drill',
      'drill-moment',
      'pitr',
      'enable-pitr',
      'request',
      'restore',
      'retire',
      'scrub',
      'swap-sqlite',
      'tiering',
      'verify',
    ]) {
      const history = read(name)
      const scheduled = history.events.flatMap(event => event.activityTaskScheduledEventAttributes ?? [])
      const last = scheduled.at(-2) ?? scheduled.at(-1)
      assert.ok(last)
      last.activityType.name = 'somethingElse'
      await assert.rejects(replay(history), DeterminismViolationError, name)
    }
  })

  test('they name no machine, no home and no secret', () => {
    for (const name of names) {
      const text = textOf(read(name))
      for (const [, path] of text.matchAll(/(?:^|[\s"'=:(])(\/[A-Za-z0-9][\w.-]*\/[^\s"')]*)/gm)) {
        assert.match(path ?? '', /^\/(tmp|v1|internal\/v1)\//, `${name} names ${path}`)
      }
      for (const [url] of text.matchAll(/file:[^\s"')]*/g)) assert.match(url, /^file:\/\/\/tmp\//, name)
      for (const [identity] of text.matchAll(/\b\d+@[\w.-]+/g)) assert.match(identity, /@recorder/, name)
      assert.doesNotMatch(text, /"(d|dataKey|privateKey|password|secretAccessKey|secrets|token)":/, name)
      assert.doesNotMatch(text, /PRIVATE KEY|Bearer /, name)
    }
  })
})

/** Everything readable, payloads decoded. */
function textOf(value: unknown): string {
  return JSON.stringify(value, (key, item: unknown) =>
    key === 'data' && typeof item === 'string' ? Buffer.from(item, 'base64').toString('utf8') : item,
  ).replaceAll('\\"', '"')
}
