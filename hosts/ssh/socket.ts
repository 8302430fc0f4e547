/** The TCP connection below a link: few system calls, little garbage. */
import { createSecretKey } from 'node:crypto'
import { once } from 'node:events'
import { Socket } from 'node:net'
import type { Client } from 'ssh2'
import { letGo } from '../../model/let-go.ts'

const readBytes = 1024 * 1024

export interface Wire {
  socket: Socket
  /** From now on whoever takes data from it is done with it when it returns. */
  reuse(): void
}

/** Throws what the system says. */
export async function connectWire(host: string, port: number, seconds: number): Promise<Wire> {
  const memory = Buffer.allocUnsafeSlow(readBytes)
  let reused = false
  const socket = new Socket({
    onread: {
      buffer: memory,
      callback(length) {
        const read = memory.subarray(0, length)
        socket.emit('data', reused ? read : Buffer.from(read))
        return true
      },
    },
  })
  // Without it a third of all streams stalled, as small packets waited for each other.
  socket.setNoDelay(true)
  socket.connect({ host, port })
  const late = setTimeout(() => socket.destroy(new Error('nobody answered')), seconds * 1000)
  try {
    await once(socket, 'connect')
    // Not earlier: connecting gives it its own `write` back.
    gather(socket)
    return {
      socket,
      reuse() {
        reused = true
      },
    }
  } catch (cause) {
    socket.destroy()
    throw cause
  } finally {
    clearTimeout(late)
  }
}

/** What is written in one go leaves in one go: a packet is written as three pieces. Their memory goes with them. */
function gather(socket: Socket): void {
  const write = socket.write.bind(socket)
  let corked = false
  socket.write = (chunk: string | Uint8Array) => {
    if (!corked) {
      corked = true
      socket.cork()
      process.nextTick(() => {
        corked = false
        socket.uncork()
      })
    }
    return write(chunk, () => {
      if (typeof chunk !== 'string') letGo(chunk)
    })
  }
}

/**
 * ssh2 makes a cipher for each packet from the bytes of a key. From a key that is made once, Node makes one five times as
 * fast, a sixth of all the time. Keys are new with each handshake.
 */
export function quickKeys(client: Client): void {
  const { _protocol: protocol } = client as unknown as { _protocol?: Record<string, Record<string, unknown>> }
  for (const [one, name] of [
    [protocol?._cipher, '_encKey'],
    [protocol?._decipher, '_decipherKey'],
  ] as const) {
    const bytes = one?.[name]
    if (one && Buffer.isBuffer(bytes)) one[name] = createSecretKey(bytes)
  }
}
