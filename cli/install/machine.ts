/** What an installation touches: files below a root, and systemd's own programs. */
import { execFile } from 'node:child_process'
import { chmod, mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { HoldfastError } from '../../model/errors.ts'

export interface Machine {
  /** '/' or a directory that stands for it: then nothing is started, and no service manager is asked. */
  root: string
  /** Path here of a path of the machine. */
  at(path: string): string
  read(path: string): Promise<string | undefined>
  /** Whole or not at all. */
  write(path: string, text: string, mode: number): Promise<void>
  remove(path: string): Promise<void>
  list(path: string): Promise<string[]>
  run(argv: readonly string[]): Promise<string>
}

export function openMachine(root: string): Machine {
  const at = (path: string) => join(root, path)
  return {
    root,
    at,
    read: path => readFile(at(path), 'utf8').catch(unlessMissing),
    async write(path, text, mode) {
      const target = at(path)
      const secret = (mode & 0o077) === 0
      await mkdir(dirname(target), { recursive: true, mode: secret ? 0o700 : 0o755 })
      const draft = `${target}.new`
      await rm(draft, { force: true })
      const file = await open(draft, 'wx', mode)
      try {
        await file.writeFile(text)
        await file.chmod(mode)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(draft, target)
      if (secret) await chmod(dirname(target), 0o700)
    },
    remove: path => rm(at(path), { recursive: true, force: true }),
    list: async path => (await readdir(at(path)).catch(unlessMissing)) ?? [],
    async run(argv) {
      const [program = '', ...args] = argv
      try {
        const { stdout } = await promisify(execFile)(program, args)
        return stdout
      } catch (error) {
        const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : String(error)
        throw new HoldfastError('tool.failed', `${argv.join(' ')}: ${said}`)
      }
    },
  }
}

function unlessMissing(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
  throw error
}

/** Refuses where an installation could not work, before anything is touched. */
export async function checkMachine(machine: Machine): Promise<void> {
  if (machine.root !== '/') {
    await stat(machine.root)
    return
  }
  if (process.getuid?.() !== 0) {
    throw new HoldfastError('request.forbidden', 'Services of this machine are installed by root.', {
      hint: 'Run it with sudo; --dry-run shows without it what would be done.',
    })
  }
  const runs = await stat('/run/systemd/system').then(
    () => true,
    () => false,
  )
  if (!runs) {
    throw new HoldfastError('host.tool-missing', 'systemd does not run this machine.', {
      hint: 'Use `holdfast up`, or docker-compose.yml in a place with containers; see docs/installation.md.',
    })
  }
}

/** The services' user must be able to read Holdfast itself. */
export async function checkProgram(program: string): Promise<void> {
  const launcher = join(program, 'bin/holdfast')
  for (let path = launcher; path !== '/'; path = dirname(path)) {
    const { mode } = await stat(path)
    if ((mode & 0o005) !== 0o005) {
      throw new HoldfastError(
        'request.invalid',
        `Other users may not read ${path}, so that a service with a user of its own cannot run ${launcher}.`,
        {
          hint: 'Put Holdfast where everybody may read it, e.g. /opt/holdfast, and run its `holdfast install`.',
        },
      )
    }
  }
}
