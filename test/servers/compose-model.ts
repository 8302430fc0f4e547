/** docker-compose.yml as the compose specification's own loader understands it: validated, interpolated, merged. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod'
import { goTools } from './go-tools.ts'

const root = join(import.meta.dirname, '../..')

const mount = z.object({
  type: z.enum(['volume', 'bind']),
  source: z.string().optional(),
  target: z.string(),
  read_only: z.boolean().optional(),
})

const service = z.object({
  image: z.string(),
  entrypoint: z.array(z.string()).nullish(),
  command: z.array(z.string()).nullish(),
  environment: z.record(z.string(), z.string()).default({}),
  secrets: z.array(z.object({ source: z.string(), target: z.string() })).default([]),
  volumes: z.array(mount).default([]),
  tmpfs: z.array(z.string()).default([]),
  read_only: z.boolean().default(false),
  cap_drop: z.array(z.string()).default([]),
  security_opt: z.array(z.string()).default([]),
  depends_on: z
    .record(
      z.string(),
      z.object({
        condition: z.enum(['service_started', 'service_healthy', 'service_completed_successfully']),
      }),
    )
    .default({}),
  healthcheck: z.object({ test: z.array(z.string()) }).optional(),
  restart: z.string().optional(),
  stop_grace_period: z.string().optional(),
  stop_signal: z.string().optional(),
  networks: z.record(z.string(), z.unknown()).default({}),
  network_mode: z.string().optional(),
  ports: z
    .array(z.object({ host_ip: z.string().optional(), target: z.number(), published: z.string() }))
    .default([]),
})
const model = z.object({
  services: z.record(z.string(), service),
  networks: z.record(z.string(), z.object({ internal: z.boolean().optional() })),
  volumes: z.record(z.string(), z.unknown()),
  secrets: z.record(z.string(), z.object({ file: z.string() })),
})
export type ComposeModel = z.infer<typeof model>

/** Throws with the loader's words where the file is not what the specification says. */
export async function composeModel(file = join(root, 'docker-compose.yml')): Promise<ComposeModel> {
  const loader = join(await goTools('compose'), 'compose-spec')
  // Nothing of the caller's environment fills in a variable.
  const env = { PATH: process.env.PATH ?? '' }
  const { stdout } = await promisify(execFile)(loader, [file], { cwd: root, env })
  return model.parse(JSON.parse(stdout))
}
