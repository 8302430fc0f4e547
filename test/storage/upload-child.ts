/**
 * Run by resume.test.ts as a process of its own, to be killed in mid-upload: writes one staged file as an artifact, with a
 * journal. `argv`: JSON of {root, file, key, uploadId, journal, seal, stopAfterParts}. Says "sent N" after each part; from
 * `stopAfterParts` on, parts hang after the store has them, before anybody learns of it.
 */

import { createReadStream } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { localFiles } from '../../hosts/files.ts'
import { wholeCompression } from '../../model/compression.ts'
import { openJournal } from '../../storage/journal.ts'
import { openLocalDestination } from '../../storage/local/index.ts'
import { writeArtifact } from '../../storage/writer.ts'

const { root, file, key, uploadId, journal, seal, stopAfterParts } = JSON.parse(process.argv[2] ?? '')
const destination = openLocalDestination(pathToFileURL(root).href)
const buffer = (text: string) => Buffer.from(text, 'base64url')
await writeArtifact({
  destination: {
    ...destination,
    putPart: async (...args) => {
      const info = await destination.putPart(...args)
      if (info.number > stopAfterParts) {
        process.stdout.write(`hanging ${info.number}\n`)
        await new Promise(() => setInterval(() => {}, 1000))
      }
      return info
    },
  },
  key,
  uploadId,
  source: createReadStream(file),
  framing: 'raw',
  compression: wholeCompression({ level: 1 }),
  seal: {
    dataKey: buffer(seal.dataKey),
    salt: buffer(seal.salt),
    noncePrefix: buffer(seal.noncePrefix),
    associatedData: seal.associatedData,
  },
  journal: await openJournal(localFiles, journal),
  partBytes: 1 << 20,
  parallelParts: 3,
})
