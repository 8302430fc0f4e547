/** AWS KMS for tests: moto, an emulator that really encrypts, installed once per machine. What it holds is gone with it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CreateKeyCommand, KMSClient } from '@aws-sdk/client-kms'
import { freePort } from '../../cli/free-port.ts'
import { pythonWith } from './python.ts'

const startSeconds = 60
const region = 'eu-central-1'

export interface Moto {
  endpoint: string
  /** What a process needs to ask it, as it would ask AWS: by the environment alone. */
  env(endpoint?: string): Record<string, string>
  /** A new symmetric key's ARN. */
  createKey(): Promise<string>
  stop(): Promise<void>
}

export async function startMoto(): Promise<Moto> {
  const python = await pythonWith('moto', join(import.meta.dirname, 'moto/requirements.txt'))
  const port = await freePort()
  const endpoint = `http://127.0.0.1:${port}`
  const child = spawn(python, ['-m', 'moto.server', '-H', '127.0.0.1', '-p', String(port)], {
    stdio: 'ignore',
  })
  await answers(child, endpoint)
  const credentials = { accessKeyId: 'AKTESTTESTTEST', secretAccessKey: 'not-a-secret-of-anybody' }
  const client = new KMSClient({ region, endpoint, credentials })
  return {
    endpoint,
    env: (at = endpoint) => ({
      AWS_ENDPOINT_URL_KMS: at,
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    }),
    async createKey() {
      const { KeyMetadata: made } = await client.send(new CreateKeyCommand({}))
      if (made?.Arn === undefined) throw new Error('moto made no key')
      return made.Arn
    },
    async stop() {
      client.destroy()
      const gone = new Promise(resolve => child.once('exit', resolve))
      child.kill('SIGKILL')
      await gone
    },
  }
}

async function answers(child: ChildProcess, endpoint: string): Promise<void> {
  const until = Date.now() + startSeconds * 1000
  while (Date.now() < until) {
    if (child.exitCode !== null) throw new Error(`moto ended with ${child.exitCode}`)
    const there = await fetch(`${endpoint}/moto-api/`).then(
      answer => answer.ok,
      () => false,
    )
    if (there) return
    await sleep(100)
  }
  throw new Error(`moto did not answer within ${startSeconds} s`)
}
