/**
 * A database host of its own for tests: a real sshd in its own network namespace behind a link that can be cut, with its
 * own users, sudo rules and boot id. Files and processes are this machine's, so that a test sees what happens there.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { access, chmod, chown, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Login } from '../../hosts/ssh/index.ts'
import { namespace } from './namespace.ts'

const run = promisify(execFile)
const port = 2222
const program = '/usr/sbin/sshd'

/** The login; it may become `postgres` by sudo where the options say so. */
export const sshUser = 'hfdba'
export const sshUserId = 20_571

export interface TestSshd {
  readonly address: string
  readonly port: number
  readonly user: string
  /** OpenSSH format; `protectedKey` is the same under `passphrase`. */
  readonly privateKey: string
  readonly protectedKey: string
  readonly passphrase: string
  readonly password: string
  /** What our own client needs, by the key as it is now. */
  login(): Promise<Login>
  /** `ssh-ed25519 AAAA…`, as it is now. */
  hostKey(): Promise<string>
  /** The login's home, and a place for its staging. */
  readonly home: string
  /** The link carries nothing until it is mended; both ends keep what they have. */
  cut(): Promise<void>
  mend(): Promise<void>
  /** Everything that runs there dies, and the boot id changes. */
  reboot(): Promise<void>
  /** As if set up anew. */
  changeHostKey(): Promise<void>
  /** A small file system that both sides see. */
  disk(kibibytes: number): Promise<string>
  removeDisk(path: string): Promise<void>
  /** May the login run /bin/sh as postgres from now on? */
  allowSudo(allowed: boolean): Promise<void>
  /** What runs there, by pid. */
  pids(): Promise<number[]>
  log(): Promise<string>
  stop(): Promise<void>
}

export interface SshdOptions {
  /** May the login run /bin/sh as postgres? */
  sudo?: boolean
  /** More lines for sshd_config. */
  config?: string
  /** A directory of programs for who becomes postgres, before the usual ones. */
  programs?: string
  /** Paths of programs that are not there. */
  without?: readonly string[]
  /** What the login's shell prints before anything else. */
  greeting?: string
}

export async function needSshd(): Promise<void> {
  const missing: string[] = []
  for (const [path, name] of [
    [program, 'openssh-server'],
    ['/usr/bin/sudo', 'sudo'],
    ['/usr/bin/ssh-keygen', 'openssh-client'],
    ['/sbin/ip', 'iproute2'],
  ] as const) {
    await access(path).catch(() => missing.push(name))
  }
  if (missing.length === 0) return
  process.stderr.write(`sshd: installing ${missing.join(', ')} with apt-get\n`)
  // It must not run a server of its own.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' }
  const wait = ['-o', 'DPkg::Lock::Timeout=120']
  await run('apt-get', [...wait, 'update'], { env }).catch(() => undefined)
  await run('apt-get', [...wait, 'install', '-y', '--no-install-recommends', ...missing], { env })
}

const keygen = (path: string, passphrase = '') =>
  run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', passphrase, '-C', 'test', '-f', path])

export async function startSshd(options: SshdOptions = {}): Promise<TestSshd> {
  if (process.getuid?.() !== 0)
    throw new Error('A database host of its own needs root, for its network namespace.')
  await needSshd()
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-sshd-'))
  await chmod(directory, 0o755)
  const at = (name: string) => join(directory, name)
  const home = at('home')
  await mkdir(home)
  await chown(home, sshUserId, sshUserId)
  await mkdir('/run/sshd', { recursive: true })
  const password = randomBytes(9).toString('base64url')
  const passphrase = randomBytes(9).toString('base64url')
  await keygen(at('host_key'))
  await keygen(at('key'))
  await writeFile(at('protected'), await readFile(at('key')), { mode: 0o600 })
  await run('ssh-keygen', ['-q', '-p', '-P', '', '-N', passphrase, '-f', at('protected')])
  await accounts(at, home, password, options)
  await writeFile(
    at('config'),
    [
      `HostKey ${at('host_key')}`,
      `AuthorizedKeysFile ${at('key.pub')}`,
      'PidFile none',
      'UsePAM no',
      'StrictModes no',
      'LogLevel VERBOSE',
      options.config ?? '',
      '',
    ].join('\n'),
  )
  // What is mounted below it is seen in the other namespace, too.
  await mkdir(at('disks'))
  await run('mount', ['--bind', at('disks'), at('disks')])
  await run('mount', ['--make-shared', at('disks')])
  const network = await namespace()
  let server: ChildProcess | undefined
  const start = async () => {
    await writeFile(at('boot_id'), `${randomUUID()}\n`)
    const binds = [
      ['passwd', '/etc/passwd'],
      ['shadow', '/etc/shadow'],
      ['group', '/etc/group'],
      ['sudoers', '/etc/sudoers'],
      ['boot_id', '/proc/sys/kernel/random/boot_id'],
    ].map(([from, to]) => `mount --bind ${at(from ?? '')} ${to}`)
    for (const path of options.without ?? []) binds.push(`mount --bind /dev/null ${path}`)
    const listen = `-o ListenAddress=${network.address}:${port}`
    const text = [...binds, `exec ${program} -D -E ${at('log')} -f ${at('config')} ${listen}`].join(' && ')
    const child = spawn(
      'ip',
      ['netns', 'exec', network.name, 'unshare', '-m', '--propagation', 'slave', 'sh', '-c', text],
      {
        stdio: ['ignore', 'ignore', 'inherit'],
      },
    )
    server = child
    await answers(network.address, child)
  }
  const endAll = async () => {
    const ended = new Promise(resolve =>
      server === undefined || server.exitCode !== null || server.signalCode !== null
        ? resolve(undefined)
        : server.once('exit', resolve),
    )
    for (let pids = await network.pids(); pids.length > 0; pids = await network.pids()) {
      for (const pid of pids) killQuietly(pid)
      await sleep(20)
    }
    await ended
  }
  const hostKey = async () =>
    (await readFile(at('host_key.pub'), 'utf8')).split(' ').slice(0, 2).join(' ').trim()
  const lastResort = () => server?.kill('SIGKILL')
  process.once('exit', lastResort)
  try {
    await start()
  } catch (error) {
    await endAll()
    await network.remove()
    throw error
  }
  return {
    address: network.address,
    port,
    user: sshUser,
    privateKey: await readFile(at('key'), 'utf8'),
    protectedKey: await readFile(at('protected'), 'utf8'),
    passphrase,
    password,
    login: async () => ({
      name: 'db',
      address: network.address,
      port,
      user: sshUser,
      hostKeys: [await hostKey()],
      privateKey: await readFile(at('key'), 'utf8'),
      agent: false,
    }),
    hostKey,
    home,
    cut: () => network.link('down'),
    mend: () => network.link('up'),
    async reboot() {
      await endAll()
      await start()
    },
    async changeHostKey() {
      await rm(at('host_key'))
      await rm(at('host_key.pub'))
      await keygen(at('host_key'))
      // Sessions stay; the server reads its key anew.
      server?.kill('SIGHUP')
      await sleep(200)
      await answers(network.address, server as ChildProcess)
    },
    async disk(kibibytes) {
      const path = await mkdtemp(at('disks/d'))
      await run('mount', ['-t', 'tmpfs', '-o', `size=${kibibytes}k`, 'tmpfs', path])
      return path
    },
    removeDisk: async path => void (await run('umount', ['-l', path])),
    allowSudo: allowed => writeFile(at('sudoers'), sudoers(allowed, options.programs)),
    pids: network.pids,
    log: () => readFile(at('log'), 'utf8'),
    async stop() {
      await endAll()
      process.removeListener('exit', lastResort)
      await network.remove()
      await run('umount', ['-l', at('disks')])
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** Users and rules of that host, laid over this machine's own files in its mount namespace. */
async function accounts(
  at: (name: string) => string,
  home: string,
  password: string,
  options: SshdOptions,
): Promise<void> {
  // Not as an argument: it may begin with a dash.
  const hash = run('openssl', ['passwd', '-6', '-stdin'])
  hash.child.stdin?.end(password)
  const { stdout } = await hash
  const system = async (name: string) => await readFile(`/etc/${name}`, 'utf8')
  await writeFile(
    at('passwd'),
    `${await system('passwd')}${sshUser}:x:${sshUserId}:${sshUserId}::${home}:/bin/bash\n`,
  )
  await writeFile(at('group'), `${await system('group')}${sshUser}:x:${sshUserId}:\n`)
  await writeFile(at('shadow'), `${await system('shadow')}${sshUser}:${stdout.trim()}:19000:0:99999:7:::\n`, {
    mode: 0o640,
  })
  await writeFile(at('sudoers'), sudoers(options.sudo ?? false, options.programs), { mode: 0o440 })
  if (options.greeting !== undefined) {
    await writeFile(join(home, '.bashrc'), `echo '${options.greeting}'; echo '${options.greeting}' >&2\n`)
  }
}

const usualPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const sudoers = (allowed: boolean, programs: string | undefined) =>
  `Defaults env_reset\n${programs === undefined ? '' : `Defaults secure_path="${programs}:${usualPath}"\n`}${allowed ? `${sshUser} ALL=(postgres) NOPASSWD: /bin/sh\n` : ''}`

async function answers(address: string, child: ChildProcess): Promise<void> {
  for (let tries = 0; tries < 200; tries += 1) {
    if (child.exitCode !== null) throw new Error(`sshd ended with ${child.exitCode}`)
    const there = await new Promise<boolean>(resolve => {
      const socket = connect({ host: address, port }, () => resolve(true))
      socket.once('error', () => resolve(false))
      setTimeout(() => resolve(false), 1000).unref()
      socket.once('connect', () => socket.destroy())
    })
    if (there) return
    await sleep(50)
  }
  throw new Error('sshd does not answer')
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // Gone already.
  }
}
