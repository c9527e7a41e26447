// Pictures that an environment made of itself.

import { pen } from "./dom.js";

/** A scene of pictures; nobody knows which figure is which agent. */
export async function pictures(canvas, episode, lens) {
  const files = episode.scene.pictures.map((file) =>
    new Blob([file.values], { type: "image/webp" })
  );
  const images = await Promise.all(files.map((file) => createImageBitmap(file)));
  const view = { cell: 1, middle: [0, 0] };
  return {
    draw(time) {
      const image = images[Math.min(images.length - 1, Math.floor(time + 0.5))];
      const width = canvas.clientWidth;
      const height = canvas.clientHeight;
      const scale = lens.zoom * Math.min(width / image.width, height / image.height);
      Object.assign(view, { cell: scale, middle: lens.middle ?? [0, 0] });
      const context = pen(canvas, width, height);
      context.imageSmoothingQuality = "high";
      const [w, h] = [image.width * scale, image.height * scale];
      const [east, north] = lens.zoom > 1 ? view.middle : [0, 0];
      const left = (width - w) / 2 - east * scale;
      context.drawImage(image, left, (height - h) / 2 + north * scale, w, h);
    },
    get shown() {
      return view;
    },
    agentAt: () => undefined,
    describe: () => "Picture that the environment made of itself.",
    left: () => "",
    shape: images[0].width / images[0].height,
  };
}
