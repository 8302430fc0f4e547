/**
 * A program of its own: compiles the workflows into the bundle a worker runs, and writes it to standard output. The
 * compiler takes 150 MB that the worker would never give back.
 */
import { fileURLToPath } from 'node:url'
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker'

const { code } = await bundleWorkflowCode({
  workflowsPath: fileURLToPath(new URL('../workflows/index.ts', import.meta.url)),
  logger: new DefaultLogger('WARN'),
})
process.stdout.write(code)
