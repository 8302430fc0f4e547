/** A Temporal dev server for tests: 127.0.0.1, free ports, gone with the process that started it. */
import type { ChildProcess } from 'node:child_process'
import { freePort } from '../../cli/free-port.ts'
import { endChild } from '../../cli/leash.ts'
import { ensureTemporal } from '../../cli/temporal-binary.ts'
import { spawnTemporalServer, temporalAnswers } from '../../cli/temporal-server.ts'

export interface TestTemporal {
  address: string
  uiUrl: string
  readonly pid: number
  /** Ends it in order. */
  stop(): Promise<void>
  /** `kill -9`; resolves when it is gone. Everything not in `dbFilename` is lost. */
  kill9(): Promise<void>
  /** Starts it again on the same ports and file (ends it first if it runs). */
  restart(): Promise<void>
}

export async function startTemporal(
  options: {
    /** Absent: in memory. */
    dbFilename?: string
    port?: number
    uiPort?: number
    /** Register Holdfast's search attributes at start (the API does it in the product). */
    searchAttributes?: boolean
  } = {},
): Promise<TestTemporal> {
  const program = await ensureTemporal({ onProgress: line => process.stderr.write(`temporal: ${line}\n`) })
  const names = ['Connection', 'Engine', 'Operation', 'Backup', 'State']
  const namespace = 'default'

  const start = async (port: number, uiPort: number): Promise<ChildProcess> => {
    const child = spawnTemporalServer({
      program,
      port,
      uiPort,
      namespace,
      output: 'ignore',
      ...(options.dbFilename === undefined ? {} : { databaseFile: options.dbFilename }),
      ...(options.searchAttributes === true
        ? { searchAttributes: Object.fromEntries(names.map(name => [`Holdfast${name}`, 'Keyword'])) }
        : {}),
    })
    try {
      await temporalAnswers(child, { program, address: `127.0.0.1:${port}`, namespace })
      return child
    } catch (error) {
      await endChild(child, 1)
      throw error
    }
  }

  let port = 0
  let uiPort = 0
  let child: ChildProcess | undefined
  for (let attempt = 1; child === undefined; attempt++) {
    port = options.port ?? (await freePort())
    uiPort = options.uiPort ?? (await freePort())
    child = await start(port, uiPort).catch(error => {
      // Between asking for a free port and using it somebody else may have taken it.
      if (attempt === 3) throw error
      return undefined
    })
  }
  let current = child

  return {
    address: `127.0.0.1:${port}`,
    uiUrl: `http://127.0.0.1:${uiPort}`,
    get pid() {
      return current.pid ?? 0
    },
    stop: () => endChild(current, 10),
    kill9: async () => {
      if (current.exitCode !== null || current.signalCode !== null) return
      const gone = new Promise<void>(resolve => current.once('exit', () => resolve()))
      current.kill('SIGKILL')
      await gone
    },
    restart: async () => {
      await endChild(current, 10)
      current = await start(port, uiPort)
    },
  }
}
