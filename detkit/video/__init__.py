"""Video files and live streams as images, and images as a video file. OpenCV does the decoding.

A file gives every frame, in order. A live stream gives the newest frame: whoever looks more slowly
than it sends leaves frames out, counted in ``Frame.dropped``, and never falls behind. OpenCV's
blue-green-red order does not leave this folder.
"""

from detkit.video.file import EXTENSIONS, VideoFile
from detkit.video.frames import Frame
from detkit.video.live import LiveStream
from detkit.video.recorder import VideoRecorder

__all__ = ["EXTENSIONS", "Frame", "LiveStream", "VideoFile", "VideoRecorder"]
