/**
 * The resident process of a database host: answers clients on a Unix socket that only its own user may use. It keeps nothing:
 * killed at any moment, what was not answered is asked for again.
 */
import { chmod, rm } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { HoldfastError } from '../../model/errors.ts'
import { type Acts, type Answer, openActs } from './acts.ts'

const maxLineBytes = 16 << 10
const lineSeconds = 10

export interface WalAgent {
  socket: string
  close(): Promise<void>
}

/** `told`: each answer that is a failure. Throws `request.in-use` when another agent answers at its socket. */
export async function startAgent(
  configPath: string,
  told: (failure: Extract<Answer, { state: 'failed' }>) => void,
): Promise<WalAgent> {
  const acts = await openActs(configPath, { resident: true })
  const { socket } = acts
  const server = createServer({ allowHalfOpen: true }, client => serve(client, acts, told))
  try {
    if (await answers(socket))
      throw new HoldfastError('request.in-use', `An agent answers at ${socket} already.`)
    // Left by one that was killed: nobody listens there.
    await rm(socket, { force: true })
    const mask = process.umask(0o177)
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(socket, resolve)
    }).finally(() => process.umask(mask))
    await chmod(socket, 0o600)
  } catch (error) {
    await acts.close()
    throw error
  }
  return {
    socket,
    async close() {
      // Node removes the socket; who waits for an answer gets it.
      await new Promise<void>(resolve => server.close(() => resolve()))
      await acts.close()
    },
  }
}

function serve(
  client: Socket,
  acts: Acts,
  told: (failure: Extract<Answer, { state: 'failed' }>) => void,
): void {
  let text = ''
  let asked = false
  client.setEncoding('utf8')
  // Clients are killed at any moment; what they asked for is finished all the same.
  client.on('error', () => {})
  client.setTimeout(lineSeconds * 1000, () => {
    if (!asked) client.destroy()
  })
  client.on('data', (piece: string) => {
    if (asked) return
    text += piece
    const end = text.indexOf('\n')
    if (end === -1) {
      if (text.length > maxLineBytes) client.destroy()
      return
    }
    asked = true
    void acts.answer(text.slice(0, end)).then(answer => {
      if (answer.state === 'failed') told(answer)
      client.end(`${JSON.stringify(answer)}\n`)
    })
  })
  client.on('end', () => {
    if (!asked) client.destroy()
  })
}

const answers = (socket: string): Promise<boolean> =>
  new Promise(resolve => {
    const probe = connect(socket)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => resolve(false))
  })
