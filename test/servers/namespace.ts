/** A machine of its own as far as the network goes: a namespace behind a cable. Needs root. */
import { execFile } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { promisify } from 'node:util'

const run = promisify(execFile)

export type Namespace = Awaited<ReturnType<typeof namespace>>

/** Two machines and a cable. */
export async function namespace() {
  const name = `hf${randomBytes(4).toString('hex')}`
  const [ours, theirs] = [`${name}a`, `${name}b`]
  const net = `10.213.${randomInt(256)}.${randomInt(64) * 4}`.split('.')
  const address = (last: number) => [...net.slice(0, 3), Number(net[3]) + last].join('.')
  const ip = (...args: string[]) => run('ip', args)
  await ip('netns', 'add', name)
  try {
    await ip('link', 'add', ours, 'type', 'veth', 'peer', 'name', theirs)
    await ip('link', 'set', theirs, 'netns', name)
    await ip('addr', 'add', `${address(1)}/30`, 'dev', ours)
    await ip('link', 'set', ours, 'up')
    await ip('-n', name, 'addr', 'add', `${address(2)}/30`, 'dev', theirs)
    await ip('-n', name, 'link', 'set', 'lo', 'up')
    await ip('-n', name, 'link', 'set', theirs, 'up')
  } catch (error) {
    await ip('netns', 'del', name)
    throw error
  }
  return {
    name,
    address: address(2),
    /** Of this machine, as seen from there. */
    gateway: address(1),
    // The far end: this machine's own keeps its route, so that nobody is told that there is no way.
    link: async (state: 'up' | 'down') => void (await ip('-n', name, 'link', 'set', theirs, state)),
    pids: async () =>
      (await ip('netns', 'pids', name)).stdout
        .split('\n')
        .filter(line => line !== '')
        .map(Number),
    remove: async () => void (await ip('netns', 'del', name)),
  }
}
