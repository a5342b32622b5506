"""The small networks that courses begin with: a LeNet, the usual few convolutions without a normalisation, a perceptron."""

from torch import nn


def lenet(classes: int, width: int) -> nn.Module:
    """LeNet-5 (LeCun et al. 1998) as it is trained today, with ReLU and max pooling; 6 and 16 channels at width 16."""
    first, second = max(1, 3 * width // 8), width
    return nn.Sequential(
        *(nn.Conv2d(3, first, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(first, second, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(25 * second, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)),
    )


def convolutions(classes: int, width: int) -> nn.Module:
    """Four convolutions, dropout and two dense layers, the usual first network for CIFAR-10; 32 and 64 channels at width 16."""
    first, second = 2 * width, 4 * width
    return nn.Sequential(
        *(nn.Conv2d(3, first, 3, padding=1), nn.ReLU(), nn.Conv2d(first, first, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.Conv2d(second, second, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.25), nn.Linear(64 * second, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, classes)),
    )


def perceptron(classes: int, width: int) -> nn.Module:
    """Two hidden layers on the pixels; 256 and 128 neurons at width 16."""
    first, second = 16 * width, 8 * width
    layers = nn.Linear(3 * 32 * 32, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, classes)
    return nn.Sequential(nn.Flatten(), *layers)
