/** The machine the worker runs on. */
import { chmod, lstat } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { HoldfastError } from '../model/errors.ts'
import { hostAt } from './at.ts'
import { localFiles } from './files.ts'
import type { Host } from './host.ts'
import type { Reach } from './place.ts'
import { localReach } from './shell.ts'

/**
 * `stagingRoot` is absolute and made if need be. It belongs to one machine (or container) and one user: jobs of
 * another process namespace cannot be judged from here. `shell` is the POSIX shell that carries jobs.
 */
export async function openLocalHost(options: {
  name: string
  stagingRoot: string
  shell?: Reach['shell']
}): Promise<Host> {
  const { name, stagingRoot } = options
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
  return hostAt({ name, stagingRoot, reach: localReach(name, options.shell ?? ['sh']) })
}

/** Staged data is a database in clear: nobody else may look, and nobody else may have prepared the place. */
async function makePrivate(path: string): Promise<void> {
  const status = await lstat(path)
  if (!status.isDirectory() || (process.getuid !== undefined && status.uid !== process.getuid())) {
    throw new HoldfastError('staging.permission', `${path} is not a directory of the user Holdfast runs as.`)
  }
  if ((status.mode & 0o077) !== 0) await chmod(path, 0o700)
}
