/** Moves a catalog (JSON in MOVE: its URLs have passwords), and stays at the stage named by its argument until it is killed. */
import { writeSync } from 'node:fs'
import { moveCatalog } from '../../catalog/move.ts'

const { from, to, keys } = JSON.parse(process.env.MOVE ?? '{}')
await moveCatalog(from, to, keys, async stage => {
  if (stage !== process.argv[2]) return
  writeSync(1, `${stage}\n`)
  // Something has to keep the process alive.
  await new Promise(resolve => setTimeout(resolve, 600_000))
})
