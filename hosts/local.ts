/** The machine the worker runs on. */
import { chmod, lstat, readdir } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { HoldfastError } from '../model/errors.ts'
import { localFiles } from './files.ts'
import type { Host } from './host.ts'
import * as jobs from './jobs.ts'
import {
  control,
  dataDirectory,
  finish,
  isPart,
  operationDirectory,
  type Place,
  startShell,
} from './place.ts'
import { quote } from './quote.ts'
import { feed, run, stream } from './run.ts'

const toolSeconds = 10
const toolCacheMs = 60_000

/**
 * `stagingRoot` is absolute and made if need be. It belongs to one machine (or container) and one user: jobs of
 * another process namespace cannot be judged from here. `shell` is the POSIX shell that carries jobs.
 */
export async function openLocalHost(options: {
  name: string
  stagingRoot: string
  shell?: readonly [string, ...string[]]
}): Promise<Host> {
  const place: Place = {
    name: options.name,
    stagingRoot: options.stagingRoot,
    shell: options.shell ?? ['sh'],
  }
  const { stagingRoot } = place
  if (!isAbsolute(stagingRoot)) {
    throw new HoldfastError(
      'settings.invalid',
      `The staging directory "${stagingRoot}" is not an absolute path.`,
    )
  }
  for (const path of [stagingRoot, `${stagingRoot}/jobs`, `${stagingRoot}/data`]) {
    await localFiles.ensureDirectory(path)
    if (path !== stagingRoot) await makePrivate(path)
  }
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
    },
    stopOperation: operation => jobs.stopOperation(place, operation),
    async operations() {
      const lists = await Promise.all(
        ['jobs', 'data'].map(name => readdir(`${stagingRoot}/${name}`, { withFileTypes: true })),
      )
      const names = lists
        .flat()
        .flatMap(entry => (entry.isDirectory() && isPart(entry.name) ? [entry.name] : []))
      return [...new Set(names)].sort()
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
    files: localFiles,
    async tool(name, versionArgs = ['--version']) {
      const key = JSON.stringify([name, versionArgs])
      const known = found.get(key)
      if (known && Date.now() - known.at < toolCacheMs) return known.tool
      const path = await control(place, /^/, 'find', name)
      if (path === '') return undefined
      const words = [path, ...versionArgs].map(quote).join(' ')
      const asked = startShell(place, ['-c', `exec ${words}`])
      const { stdout, stderr } = await finish(asked, `Asking ${path} for its version`, toolSeconds)
      const version = [...stdout.split('\n'), ...stderr.split('\n')]
        .map(line => line.trim())
        .find(line => line !== '')
      const tool = { path, version: version ?? '' }
      found.set(key, { at: Date.now(), tool })
      return tool
    },
  }
}

/** Staged data is a database in clear: nobody else may look, and nobody else may have prepared the place. */
async function makePrivate(path: string): Promise<void> {
  const status = await lstat(path)
  if (!status.isDirectory() || (process.getuid !== undefined && status.uid !== process.getuid())) {
    throw new HoldfastError('staging.permission', `${path} is not a directory of the user Holdfast runs as.`)
  }
  if ((status.mode & 0o077) !== 0) await chmod(path, 0o700)
}
