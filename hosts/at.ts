/** A host, once it is known where its jobs live and how its shell is reached. */
import type { Host } from './host.ts'
import * as jobs from './jobs.ts'
import { control, dataDirectory, finish, isPart, operationDirectory, type Place } from './place.ts'
import { quote } from './quote.ts'
import { feed, run, stream } from './run.ts'

const toolSeconds = 10
const toolCacheMs = 60_000

export function hostAt(place: Place): Host {
  const { stagingRoot } = place
  const found = new Map<string, { at: number; tool: { path: string; version: string } }>()
  return {
    name: place.name,
    stagingRoot,
    stagingDir: operation => dataDirectory(place, operation),
    run: (job, command, runOptions) => run(place, job, command, runOptions),
    stream: (job, command, runOptions) => stream(place, job, command, runOptions),
    feed: (job, command, runOptions) => feed(place, job, command, runOptions),
    jobs: {
      start: (job, command, startOptions) => jobs.start(place, job, command, startOptions),
      status: job => jobs.status(place, job),
      stop: (job, fence) => jobs.stop(place, job, fence),
      forget: job => jobs.forget(place, job),
    },
    stopOperation: operation => jobs.stopOperation(place, operation),
    async operations() {
      const listed = await control(place, /(^|\n)listed\n$/, 'operations', stagingRoot)
      const names = listed.split('\n').slice(0, -1)
      return [...new Set(names.filter(isPart))].sort()
    },
    async removeOperation(operation) {
      await control(
        place,
        /^/,
        'remove',
        dataDirectory(place, operation),
        operationDirectory(place, operation),
      )
    },
    files: place.reach.files,
    async tool(name, versionArgs = ['--version']) {
      const key = JSON.stringify([name, versionArgs])
      const known = found.get(key)
      if (known && Date.now() - known.at < toolCacheMs) return known.tool
      const path = await control(place, /^/, 'find', name)
      if (path === '') return undefined
      const words = [path, ...versionArgs].map(quote).join(' ')
      const { stdout, stderr } = await finish(await place.reach.script(`exec ${words}`, []), toolSeconds)
      const version = [...stdout.split('\n'), ...stderr.split('\n')]
        .map(line => line.trim())
        .find(line => line !== '')
      const tool = { path, version: version ?? '' }
      found.set(key, { at: Date.now(), tool })
      return tool
    },
  }
}
