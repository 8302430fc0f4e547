/** The thread of the worker's steps: what it has let go of it does not take with it when it ends. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { closeSync, fstatSync, openSync } from 'node:fs'
import { describe, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { stepsThreadOptions } from '../../activities/thread.ts'
import { scratch } from '../support/temporary.ts'

describe('the thread of steps', () => {
  test('that has fed programs closes no file of anybody else when it ends', async () => {
    await using place = await scratch()
    const thread = new Worker(new URL('./feeding-thread.ts', import.meta.url), {
      ...stepsThreadOptions,
      workerData: { stagingRoot: place.path },
    })
    const [{ warnings }] = (await once(thread, 'message')) as [{ warnings: string[] }]
    // These get the numbers that the feeds had.
    const files = Array.from({ length: 50 }, () => openSync('/dev/null', 'r'))
    await thread.terminate()
    const closed = files.filter(file => {
      try {
        return fstatSync(file) === undefined
      } catch {
        return true
      }
    })
    for (const file of files) if (!closed.includes(file)) closeSync(file)
    assert.deepEqual(closed, [])
    assert.deepEqual(warnings, [])
  })
})
