/**
 * One authenticated connection to a machine, shared by everything that runs there: dialled when it is needed, dialled
 * again after it broke, closed when nobody has used it for a while. The number of channels is bounded, as servers do.
 */
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client, ClientChannel, ConnectConfig } from 'ssh2'
import { HoldfastError } from '../../model/errors.ts'
import { fingerprint, type HostKey, hostKey, keyType, preferred } from './keys.ts'
import { connectWire, quickKeys, type Wire } from './socket.ts'

export interface Login {
  /** For errors. */
  name: string
  address: string
  port: number
  user: string
  /** Keys that somebody agreed to; any of them will do. */
  hostKeys: readonly HostKey[]
  password?: string
  privateKey?: string
  passphrase?: string
  /** Also offer what the agent of this process (SSH_AUTH_SOCK) holds. */
  agent: boolean
  /** Reach it through this machine. */
  through?: Link
}

export interface Link {
  /** Runs a command there. `long`: for as long as a job lives; `short` ones are over in a moment, and soon find room. */
  exec(command: string, size: Size): Promise<ClientChannel>
  /** A connection from there to somewhere else. */
  forward(address: string, port: number): Promise<Duplex>
  /** True from the moment the connection broke under this channel. */
  broke(channel: ClientChannel): boolean
  /** With what its program ended, once that was said. */
  exit(channel: ClientChannel): number | undefined
  /** Ends the connection; the next use dials again. */
  close(): void
}

const dialSeconds = 15
/** A dead link is noticed after `everyMs × count`; a cut of a few seconds is not. */
const keepalive = { everyMs: 5000, count: 4 }
const idleMs = 30_000
/** OpenSSH allows ten sessions on a connection unless it is told otherwise. */
const room = { all: 9, long: 6 }

/**
 * Of a channel that is refused, which did nothing there: a server counts sessions that have just been closed for a moment
 * longer than we do.
 */
const openings = 8
const openingWaitMs = 25
const isRefused = (error: unknown): boolean => error instanceof Error && /open fail/i.test(error.message)

/** A `pair` holds the room of another one, `paired`, which then needs none of its own. */
const weights = { short: 1, long: 1, pair: 2, paired: 0 } as const
export type Size = keyof typeof weights

type Ask = (client: Client, answer: (error: Error | undefined, channel: ClientChannel) => void) => void

const isLong = (size: Size) => size === 'long' || size === 'pair'

/** Loaded when the first host is reached: most installations have none. */
const ssh2 = async () => (await import('ssh2')).default

export function openLink(login: Login): Link {
  let current: Promise<Dialled> | undefined
  const broken = new WeakSet<ClientChannel>()
  const exits = new WeakMap<ClientChannel, number>()
  const open = { all: 0, long: 0 }
  const waiting: (() => void)[] = []
  let idle: NodeJS.Timeout | undefined

  const dialled = (): Promise<Dialled> => {
    if (current) return current
    const attempt = dial(login)
    current = attempt
    const forget = () => {
      if (current === attempt) current = undefined
    }
    attempt.then(({ client }) => client.once('close', forget), forget)
    return attempt
  }
  const close = () => {
    const ending = current
    current = undefined
    ending?.then(
      ({ client }) => client.end(),
      () => {},
    )
  }
  const taken = async (size: Size) => {
    const weight = weights[size]
    while (open.all + weight > room.all || (isLong(size) && open.long + weight > room.long)) {
      await new Promise<void>(resolve => waiting.push(resolve))
    }
    clearTimeout(idle)
    open.all += weight
    if (isLong(size)) open.long += weight
    let given = false
    return () => {
      if (given) return
      given = true
      open.all -= weight
      if (isLong(size)) open.long -= weight
      for (const next of waiting.splice(0)) next()
      if (open.all === 0) idle = setTimeout(close, idleMs).unref()
    }
  }
  const opening = (client: Client, ask: Ask) =>
    new Promise<ClientChannel>((resolve, reject) => {
      const lost = () => reject(new Error('the connection broke'))
      client.once('close', lost)
      try {
        ask(client, (error, opened) => {
          client.removeListener('close', lost)
          if (error) return reject(error)
          // At once: it may be the very next word.
          opened.once('exit', (code: number | null) => exits.set(opened, code ?? 137))
          resolve(opened)
        })
      } catch (error) {
        client.removeListener('close', lost)
        reject(error)
      }
    })
  /** Opens one channel; its room is given back when it closes. */
  const channel = async (size: Size, ask: Ask): Promise<ClientChannel> => {
    const release = await taken(size)
    try {
      const { client } = await dialled()
      const made = await patiently(() => opening(client, ask))
      const breaks = () => broken.add(made)
      client.once('close', breaks)
      made.once('close', () => {
        client.removeListener('close', breaks)
        release()
      })
      return made
    } catch (cause) {
      release()
      if (cause instanceof HoldfastError) throw cause
      const said = cause instanceof Error ? cause.message : String(cause)
      throw new HoldfastError(
        'host.unreachable',
        `Opening a channel to ${login.name}: ${said}.`,
        isRefused(cause)
          ? { cause, hint: 'Its sshd may allow fewer sessions per connection: MaxSessions 10 are enough.' }
          : { cause },
      )
    }
  }
  return {
    exec: (command, size) =>
      channel(size, (client, answer) => void client.exec(command, (error, made) => answer(error, made))),
    forward: (address, port) =>
      channel('long', (client, answer) =>
        client.forwardOut('127.0.0.1', 0, address, port, (error, made) => answer(error, made)),
      ),
    broke: made => broken.has(made),
    exit: made => exits.get(made),
    close,
  }
}

async function patiently(open: () => Promise<ClientChannel>): Promise<ClientChannel> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await open()
    } catch (error) {
      if (!isRefused(error) || tries === openings) throw error
      await sleep(openingWaitMs * tries)
    }
  }
}

interface Dialled {
  client: Client
}

const unreachable = (login: Login, what: string, cause?: unknown) =>
  new HoldfastError(
    'host.unreachable',
    `Connecting to ${login.name} (${login.address}:${login.port}): ${what}.`,
    cause === undefined ? {} : { cause },
  )

async function dial(login: Login): Promise<Dialled> {
  let shown: HostKey | undefined
  const { client, ready } = await handshake(login, key => {
    shown = key
    return login.hostKeys.includes(key)
  })
  try {
    await ready
    return { client }
  } catch (cause) {
    client.destroy()
    if (shown !== undefined && !login.hostKeys.includes(shown)) throw keyRefused(login, shown)
    throw explained(login, cause)
  }
}

/** The key that the machine shows now. Nothing is sent to it but that we would talk. */
export async function shownKey(login: Omit<Login, 'hostKeys'>): Promise<HostKey> {
  let shown: HostKey | undefined
  const whole = { ...login, hostKeys: [] }
  const { client, ready } = await handshake(whole, key => {
    shown = key
    return false
  })
  const failed = await ready.then(
    () => undefined,
    (cause: unknown) => cause,
  )
  client.destroy()
  if (shown === undefined) throw explained(whole, failed)
  return shown
}

async function handshake(
  login: Login,
  accept: (key: HostKey) => boolean,
): Promise<{ client: Client; ready: Promise<void> }> {
  const { Client } = await ssh2()
  const wire = login.through
    ? { socket: await login.through.forward(login.address, login.port), reuse: () => {} }
    : await wireTo(login)
  const client = new Client()
  // Each open channel has its own, and so has each that is being opened.
  client.setMaxListeners(4 * room.all)
  const ready = new Promise<void>((resolve, reject) => {
    let last: unknown
    client.on('handshake', () => quickKeys(client))
    client.once('ready', () => {
      // What comes from now on is encrypted, and so taken to other memory at once.
      wire.reuse()
      resolve()
    })
    // Whoever waits has its own answer; without a listener an error would end the process.
    client.on('error', cause => {
      last = cause
      reject(cause)
    })
    client.once('close', () => reject(last ?? new Error('it closed the connection')))
    client.on('keyboard-interactive', (_name, _instructions, _language, prompts, answer) =>
      answer(prompts.map(({ echo }) => (echo ? '' : (login.password ?? '')))),
    )
    const config: ConnectConfig = {
      sock: wire.socket,
      username: login.user,
      readyTimeout: dialSeconds * 1000,
      keepaliveInterval: keepalive.everyMs,
      keepaliveCountMax: keepalive.count,
      algorithms: { serverHostKey: preferred(login.hostKeys) },
      hostVerifier: (blob: Buffer) => accept(hostKey(blob)),
      ...(login.privateKey === undefined ? {} : { privateKey: login.privateKey }),
      ...(login.passphrase === undefined ? {} : { passphrase: login.passphrase }),
      ...(login.password === undefined ? {} : { password: login.password, tryKeyboard: true }),
      ...(login.agent && process.env.SSH_AUTH_SOCK ? { agent: process.env.SSH_AUTH_SOCK } : {}),
    }
    try {
      client.connect(config)
    } catch (cause) {
      reject(cause)
    }
  })
  ready.catch(() => {})
  return { client, ready }
}

async function wireTo(login: Login): Promise<Wire> {
  try {
    return await connectWire(login.address, login.port, dialSeconds)
  } catch (cause) {
    throw unreachable(login, cause instanceof Error ? cause.message : String(cause), cause)
  }
}

function keyRefused(login: Login, shown: HostKey): HoldfastError {
  const context = { host: login.name, shown: fingerprint(shown), keyType: keyType(shown) }
  if (login.hostKeys.length === 0) {
    return new HoldfastError(
      'host.key-unknown',
      `Connecting to ${login.name}: nobody has agreed to its key ${keyType(shown)} ${fingerprint(shown)} yet.`,
      { context },
    )
  }
  return new HoldfastError(
    'host.key-changed',
    `Connecting to ${login.name}: it shows the key ${keyType(shown)} ${fingerprint(shown)}; agreed to was ${login.hostKeys.map(fingerprint).join(', ')}. Nothing was sent.`,
    { context },
  )
}

function explained(login: Login, cause: unknown): HoldfastError {
  if (cause instanceof HoldfastError) return cause
  const said = cause instanceof Error ? cause.message : String(cause)
  const level = cause instanceof Error && 'level' in cause ? cause.level : undefined
  if (level === 'client-authentication' || level === 'agent' || /private ?key|passphrase/i.test(said)) {
    return new HoldfastError(
      'host.authentication',
      `Logging in to ${login.name} as ${login.user}: ${said}.`,
      { cause },
    )
  }
  return unreachable(login, said, cause)
}
