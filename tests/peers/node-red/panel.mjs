// Opens the dashboard, presses its button, and waits for the verdict lamp.
// node panel.mjs URL CHROMIUM SCREENSHOT: prints what was seen, as JSON.
import { chromium } from 'playwright-core'

const [url, executablePath, screenshot] = process.argv.slice(2)
const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync']
const browser = await chromium.launch({ executablePath, args })
try {
  const page = await browser.newPage({ viewport: { width: 420, height: 580 } })
  let elsewhere = 0
  await page.route('**/*', (route) => {
    if (new URL(route.request().url()).hostname === '127.0.0.1') return route.continue()
    elsewhere += 1
    return route.abort()
  })
  page.setDefaultTimeout(120000)
  await page.goto(url)
  await page.locator('#ready.ready').waitFor()
  const before = await page.locator('#text').innerText()
  await page.getByRole('button', { name: 'Trigger' }).click()
  await page.waitForFunction((text) => {
    const lamp = document.querySelector('#lamp').classList
    const waits = lamp.contains('wait') || lamp.contains('dark')
    return !waits && document.querySelector('#text').innerText !== text
  }, before)
  await page.screenshot({ path: screenshot })
  const seen = { elsewhere }
  for (const id of ['lamp', 'text', 'ok', 'ng', 'unknown', 'none', 'ready']) {
    seen[id] = (await page.locator('#' + id).innerText()).trim()
  }
  console.log(JSON.stringify(seen))
} finally {
  await browser.close()
}
