/** Keys that were put away: in `retired/` of the keys directory, where nothing is opened with them and nothing is lost. */
import { mkdir, readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import type { RecipientFile } from '../model/manifest.ts'
import { type AnyKeyFile, loadAnyKeyFile, loadRecipientFile, syncDirectory } from './keys.ts'

const retiredIn = (directory: string): string => join(directory, 'retired')

/** A name may be retired more than once, with another key each time. */
const awayName = (file: string, kid: string): string =>
  file.replace(/(\.pub)?\.json$/, (_all, pub: string | undefined) => `-${kid.slice(0, 8)}${pub ?? ''}.json`)

/** `file`: `NAME.json` or `NAME.pub.json`. Done already is fine. */
export async function putKeyAway(directory: string, file: string, kid: string): Promise<void> {
  const retired = retiredIn(directory)
  await mkdir(retired, { recursive: true, mode: 0o700 })
  await rename(join(directory, file), join(retired, awayName(file, kid))).catch(unlessGone)
  for (const one of [retired, directory]) await syncDirectory(one)
}

/** The keys that went by this name and were put away here. */
export async function keysAway(
  directory: string,
  name: string,
): Promise<{ file: string; document: AnyKeyFile | RecipientFile }[]> {
  const names = await readdir(retiredIn(directory)).catch(error => unlessGone(error) ?? [])
  const found = []
  for (const file of [`${name}.json`, `${name}.pub.json`]) {
    const load = file.endsWith('.pub.json') ? loadRecipientFile : loadAnyKeyFile
    for (const away of names) {
      if (!away.startsWith(`${name}-`) || away.endsWith('.pub.json') !== file.endsWith('.pub.json')) continue
      const document = await load(join(retiredIn(directory), away))
      if (away === awayName(file, document.kid)) found.push({ file, document })
    }
  }
  return found
}

function unlessGone(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error
}
