/** A host under test, and how another process opens it. */
import { chown } from 'node:fs/promises'
import { join } from 'node:path'
import type { Host } from '../../hosts/host.ts'
import { openSshHost } from '../../hosts/ssh/index.ts'
import type { TestSshd } from '../servers/sshd.ts'
import type { Scratch } from '../support/temporary.ts'
import { open, type Shell, scratch, type Worker, worker } from './support.ts'

export interface Subject {
  name: string
  /** A directory that the host's user may write to. */
  scratch(): Promise<Scratch>
  open(stagingRoot: string): Promise<Host>
  /** A worker of its own, with `host` at hand. */
  worker(stagingRoot: string, body: string): Worker
}

const module = (path: string) => JSON.stringify(join(import.meta.dirname, '../../hosts', path))

export const local = (shell: Shell): Subject => {
  const name = shell.join(' ').replace(/^\/.*\//, '')
  return {
    name,
    scratch: () => scratch(),
    open: root => open(root, shell),
    worker: (root, body) =>
      worker(
        `import { openLocalHost } from ${module('index.ts')}
        const host = await openLocalHost({ name: 'local', stagingRoot: ${JSON.stringify(root)} })`,
        body,
      ),
  }
}

/** Everything that was opened is closed with the process of the test. */
export async function ssh(
  server: TestSshd,
  runAs: string | null,
  user: { uid: number; gid: number },
): Promise<Subject> {
  const login = await server.login()
  const options = (stagingRoot: string) => ({ login, runAs, stagingRoot })
  return {
    name: runAs === null ? 'ssh' : `ssh as ${runAs}`,
    async scratch() {
      const place = await scratch()
      const given = async (path: string) => {
        await chown(path, user.uid, user.gid)
        return path
      }
      await given(place.path)
      const disks: string[] = []
      return {
        path: place.path,
        async smallDisk(_name, kibibytes) {
          const disk = await server.disk(kibibytes)
          disks.push(disk)
          return await given(disk)
        },
        async [Symbol.asyncDispose]() {
          for (const disk of disks) await server.removeDisk(disk)
          await place[Symbol.asyncDispose]()
        },
      }
    },
    open: async root => openedToo(openSshHost(options(root))),
    worker: (root, body) =>
      worker(
        `import { openSshHost } from ${module('ssh/index.ts')}
        const { host } = openSshHost(JSON.parse(process.env.HOLDFAST_TEST_HOST))`,
        body,
        { HOLDFAST_TEST_HOST: JSON.stringify(options(root)) },
      ),
  }
}

const links = new Set<{ close(): void }>()

function openedToo({ host, link }: ReturnType<typeof openSshHost>): Host {
  links.add(link)
  return host
}

export function closeLinks(): void {
  for (const link of links) link.close()
  links.clear()
}
